// The parser of GGUF heads. header.cc answers questions about the result.

#include <algorithm>
#include <bit>
#include <cstring>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/checkpoint/gguf/types.h"
#include "planner/checkpoint/name_table.h"
#include "planner/checkpoint/shard_of.h"
#include "planner/checkpoint/stand_in.h"
#include "planner/checkpoint/tile_layout.h"

namespace berth {

static_assert(std::endian::native == std::endian::little);

namespace {

constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMostKeyBytes = 65535;   // the format's limit
constexpr std::uint32_t kMostDimensions = 4;     // GGML_MAX_DIMS
constexpr std::uint64_t kMostValues = 65536;     // real files have a few dozen
constexpr std::uint64_t kLeastValueBytes = 13;   // length of a key, a type, and a value of one byte
constexpr std::uint64_t kLeastTensorBytes = 24;  // length of a name, rank, type, offset
constexpr std::uint64_t kReadAhead =
    256u << 10;  // how far to read on: only its end tells how long a head is

constexpr std::uint64_t kScalarBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

}  // namespace

class GgufParser {
 public:
  GgufParser(std::uint64_t file_bytes, const std::string& source, const CheckpointLimits& limits,
             const ReadHead& read_head)
      : file_bytes_(file_bytes), limits_(limits), read_head_(read_head) {
    header_.source_ = source;
  }

  GgufHeader parse() {
    read_start();
    for (std::uint64_t i = 0; i < value_count_; ++i) read_value();
    settle_keys();
    for (std::uint64_t i = 0; i < tensor_count_; ++i) read_tensor();
    locate_tensors();
    header_.bytes_.resize(at_);
    header_.bytes_.shrink_to_fit();
    return std::move(header_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(header_.source_ + ": " + what);
  }
  [[noreturn]] void fail_at(const std::string& what, std::uint64_t at) const {
    fail(what + " (byte " + std::to_string(at) + ")");
  }

  // Makes the next `count` bytes readable and steps over them; returns where they begin. `what`
  // names what is being read, for messages.
  std::uint64_t take(std::uint64_t count, std::string_view what) {
    const std::uint64_t from = at_;
    if (count > file_bytes_ - at_) {
      fail_at("the file is truncated: it ends within " + std::string(what), from);
    }
    at_ += count;
    if (at_ > limits_.header_bytes) {
      fail_at("metadata and tensor descriptions take more than " +
                  std::to_string(limits_.header_bytes) + " bytes",
              from);
    }
    if (at_ > header_.bytes_.size()) read_head_(header_.bytes_, at_);
    return from;
  }

  template <typename Number>
  Number number(std::string_view what) {
    const std::uint64_t at = take(sizeof(Number), what);  // may reallocate the bytes
    Number value;
    std::memcpy(&value, header_.bytes_.data() + at, sizeof value);
    return value;
  }

  std::string_view view(std::uint64_t at, std::uint64_t count) const {
    return std::string_view(header_.bytes_).substr(at, count);
  }

  void read_start() {
    const std::uint64_t least = 4 + 4 + 8 + 8;
    if (file_bytes_ < least) {
      fail("the file has " + std::to_string(file_bytes_) +
           " bytes, too few for a GGUF header: it is truncated or empty");
    }
    take(4, "the magic");
    if (view(0, 4) != "GGUF") fail_foreign();
    const auto version = number<std::uint32_t>("the version");
    if (version != 0 && (version & 0xFFFF) == 0) {
      fail_at("is a big-endian GGUF file; only little-endian ones are read", 4);
    }
    if (version != 2 && version != 3) {
      fail_at("GGUF version " + std::to_string(version) +
                  " is not supported (2 and 3 are; convert the file again)",
              4);
    }
    tensor_count_ = number<std::uint64_t>("the number of tensors");
    value_count_ = number<std::uint64_t>("the number of metadata values");
    const std::uint64_t rest = file_bytes_ - at_;
    if (tensor_count_ > rest / kLeastTensorBytes || tensor_count_ > limits_.tensors) {
      fail_at("claims " + std::to_string(tensor_count_) + " tensors, more than it can hold", 8);
    }
    if (value_count_ > rest / kLeastValueBytes || value_count_ > kMostValues) {
      fail_at("claims " + std::to_string(value_count_) + " metadata values, more than it can hold",
              16);
    }
  }

  [[noreturn]] void fail_foreign() {
    take(std::min(file_bytes_, kStandInBytes) - at_, "the magic");
    refuse_stand_in(view(0, at_), header_.source_);
    fail_at("does not begin with 'GGUF': this is not a GGUF file", 0);
  }

  void read_value() {
    GgufValue value;
    const std::uint64_t start = at_;
    const auto key_bytes = number<std::uint64_t>("a key's length");
    if (key_bytes == 0 || key_bytes > kMostKeyBytes) {
      fail_at("a key of " + std::to_string(key_bytes) + " bytes (1 to " +
                  std::to_string(kMostKeyBytes) + " are allowed)",
              start);
    }
    value.key_at = take(key_bytes, "a key");
    value.key_bytes = static_cast<std::uint32_t>(key_bytes);
    key_ = quote(view(value.key_at, key_bytes));
    value.type = read_type();
    if (value.type == GgufType::kArray) {
      value.array = true;
      value.type = read_type();
      if (value.type == GgufType::kArray) {
        fail_at(key_ + ": an array of arrays is not supported", at_ - 4);
      }
      value.count = number<std::uint64_t>(key_);
    }
    value.at = at_;
    skip_elements(value);
    value.end = at_;
    header_.values_.push_back(value);
  }

  GgufType read_type() {
    const auto type = number<std::uint32_t>(key_);
    if (type > static_cast<std::uint32_t>(GgufType::kF64)) {
      fail_at(key_ + ": unknown value type " + std::to_string(type), at_ - 4);
    }
    return static_cast<GgufType>(type);
  }

  void skip_elements(const GgufValue& value) {
    const std::uint64_t least =
        value.type == GgufType::kString ? 8 : kScalarBytes[static_cast<std::size_t>(value.type)];
    if (value.count > (file_bytes_ - at_) / least) {
      const std::string what =
          value.array ? key_ + ": an array of " + std::to_string(value.count) + " elements" : key_;
      fail_at("the file is truncated: it ends within " + what, at_);
    }
    if (value.type != GgufType::kString) {
      take(value.count * least, key_);
      return;
    }
    for (std::uint64_t i = 0; i < value.count; ++i) take(number<std::uint64_t>(key_), key_);
  }

  // Sorts the values by key, so that they are found quickly and a key that appears twice has its
  // twin beside it.
  void settle_keys() {
    std::vector<GgufValue>& values = header_.values_;
    std::ranges::sort(values, [&](const GgufValue& a, const GgufValue& b) {
      return view(a.key_at, a.key_bytes) < view(b.key_at, b.key_bytes);
    });
    for (std::size_t i = 1; i < values.size(); ++i) {
      const std::string_view key = view(values[i].key_at, values[i].key_bytes);
      if (key == view(values[i - 1].key_at, values[i - 1].key_bytes)) {
        fail_at("the key " + quote(key) + " appears twice",
                std::max(values[i].key_at, values[i - 1].key_at));
      }
    }
    alignment_ = header_.unsigned_integer("general.alignment").value_or(kDefaultAlignment);
    if (!std::has_single_bit(alignment_) || alignment_ > (1u << 30)) {
      header_.fail("general.alignment",
                   std::to_string(alignment_) + " is not a power of two (at most 2^30)");
    }
    check_tiles_version();
  }

  void check_tiles_version() {
    const auto version = header_.unsigned_integer(kTilesKey);
    if (!version || *version == kTilesVersion) return;
    header_.fail(kTilesKey, "version " + std::to_string(*version) +
                                " of tiles is not the one that this Berth computes on (" +
                                std::to_string(kTilesVersion) +
                                "): convert the original file again, with `berth convert --for "
                                "cpu`");
  }

  void read_tensor() {
    GgufTensor tensor;
    const std::uint64_t start = at_;
    const auto name_bytes = number<std::uint64_t>("a tensor's name");
    if (name_bytes == 0 || name_bytes > limits_.name_bytes) {
      fail_at("a tensor's name has " + std::to_string(name_bytes) + " bytes, the limit is " +
                  std::to_string(limits_.name_bytes),
              start);
    }
    tensor.name = std::string(view(take(name_bytes, "a tensor's name"), name_bytes));
    key_ = "tensor " + quote(tensor.name);
    const auto rank = number<std::uint32_t>(key_);
    if (rank > kMostDimensions) {
      fail_at(key_ + ": " + std::to_string(rank) + " dimensions, the limit is " +
                  std::to_string(kMostDimensions),
              at_ - 4);
    }
    for (std::uint32_t i = 0; i < rank; ++i) tensor.shape.push_back(number<std::uint64_t>(key_));
    std::ranges::reverse(tensor.shape);  // the file has the fastest dimension first
    read_extent(tensor);
    header_.tensors_.push_back(std::move(tensor));
  }

  void read_extent(GgufTensor& tensor) {
    const auto type = number<std::uint32_t>(key_);
    tensor.tiled = is_tiled_type(type);
    const std::optional<DType> dtype = dtype_of_ggml(tensor.tiled ? type - kTiledTypes : type);
    if (!dtype) {
      fail_at(key_ + ": type " + ggml_type_name(type) +
                  " has no size that is known: the file is newer than Berth, or its type was "
                  "taken out of the format",
              at_ - 4);
    }
    tensor.dtype = *dtype;
    if (tensor.tiled) check_tiles(tensor);
    const auto bytes = tensor_bytes(*dtype, tensor.shape);
    if (!bytes) {
      const std::uint64_t block = dtype_block(*dtype).elements;
      const bool cut = tensor.shape.empty() || tensor.shape.back() % block != 0;
      fail_at(
          key_ + (cut ? ": " + std::string(dtype_name(*dtype)) + " needs rows of a multiple of " +
                            std::to_string(block) + " elements"
                      : ": the shape's size overflows"),
          at_ - 4);
    }
    // For now these are offsets into the data section, which begins after the last description.
    tensor.begin = number<std::uint64_t>(key_);
    if (tensor.begin % alignment_ != 0) {
      fail_at(key_ + ": its offset " + std::to_string(tensor.begin) + " is not a multiple of " +
                  std::to_string(alignment_),
              at_ - 8);
    }
    if (__builtin_add_overflow(tensor.begin, *bytes, &tensor.end)) {
      fail_at(key_ + ": offset and size overflow", at_ - 8);
    }
  }

  void check_tiles(const GgufTensor& tensor) {
    if (!header_.has(kTilesKey)) {
      fail_at(key_ + ": is in tiles, but the file has no " + std::string(kTilesKey) +
                  " that says of which version",
              at_ - 4);
    }
    const std::size_t rank = tensor.shape.size();
    if (is_block_format(tensor.dtype) && (rank == 2 || rank == 3)) return;
    fail_at(key_ + ": is in tiles, which only matrices of a block format and lists of them can be",
            at_ - 4);
  }

  void locate_tensors() {
    std::vector<GgufTensor>& tensors = header_.tensors_;
    NameTable names(tensors.size());
    const auto name_of = [&](std::uint32_t i) -> std::string_view { return tensors[i].name; };
    for (std::uint32_t i = 0; i < tensors.size(); ++i) {
      if (names.insert(tensors[i].name, i, name_of) != NameTable::kAbsent) {
        fail("tensor " + quote(tensors[i].name) + " appears twice");
      }
    }
    const std::uint64_t data = (at_ + alignment_ - 1) / alignment_ * alignment_;
    for (GgufTensor& tensor : tensors) {
      const std::string what = "tensor " + quote(tensor.name);
      if (data > file_bytes_ || tensor.end > file_bytes_ - data) {
        fail("the file is truncated: " + what + " ends " + std::to_string(tensor.end) +
             " bytes into the data, the file has " +
             std::to_string(file_bytes_ - std::min(data, file_bytes_)) + " there");
      }
      tensor.begin += data;
      tensor.end += data;
    }
    std::ranges::stable_sort(tensors, [](const GgufTensor& a, const GgufTensor& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    for (std::size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i].begin >= tensors[i - 1].end) continue;
      fail_at(
          "tensors " + quote(tensors[i - 1].name) + " and " + quote(tensors[i].name) + " overlap",
          tensors[i].begin);
    }
  }

  std::uint64_t file_bytes_;
  const CheckpointLimits& limits_;
  const ReadHead& read_head_;
  GgufHeader header_;
  std::uint64_t at_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t value_count_ = 0;
  std::uint64_t alignment_ = kDefaultAlignment;
  std::string key_;  // what is being read, for messages
};

GgufHeader parse_gguf_header(std::uint64_t file_bytes, const std::string& source,
                             const CheckpointLimits& limits, const ReadHead& read_head) {
  return GgufParser(file_bytes, source, limits, read_head).parse();
}

GgufHeader read_gguf_header(const std::filesystem::path& path, const CheckpointLimits& limits,
                            Shard& identity) {
  const File file(path);
  identity = shard_of(file);
  return parse_gguf_header(
      file.size(), path.string(), limits, [&](std::string& head, std::uint64_t wanted) {
        const std::uint64_t known = head.size();
        const std::uint64_t size = std::min(file.size(), std::max(wanted, known + kReadAhead));
        head.resize(size);
        file.read_exactly(known, head.data() + known, size - known);
      });
}

}  // namespace berth
