#include "planner/checkpoint/safetensors/header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/safetensors/plain_header.h"

namespace berth {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::uint64_t kLengthBytes = 8;

// Puts simdjson's error into the words of the format.
std::string describe(simdjson::error_code error) {
  if (error == simdjson::UTF8_ERROR) return "the header is not valid UTF-8";
  return std::string("the header is not valid JSON: ") + simdjson::error_message(error);
}

// A header that is being read. Whatever can fail ends in fail(), which knows the file's name.
class Header {
 public:
  Header(std::string_view json, std::uint32_t shard, const std::string& source,
         const CheckpointLimits& limits, std::vector<TensorInfo>& tensors, UniqueNames& names)
      : json_(json),
        shard_(shard),
        source_(source),
        limits_(limits),
        tensors_(tensors),
        first_(tensors.size()),
        names_(names) {}

  // Reads a header that is spelled as the reference writer does. Returns false, with nothing added,
  // if it is spelled otherwise or breaks a rule: read() then reads it, or says what is wrong.
  bool read_plain();
  void read(ondemand::parser& parser);
  void check_layout(std::uint64_t file_bytes);

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(source_ + ": " + what); }
  // `at` points into the header, so that the message can name the byte.
  [[noreturn]] void fail_at(const char* at, const std::string& what) const {
    fail(what + " (byte " + std::to_string(kLengthBytes + (at - json_.data())) + ")");
  }
  [[noreturn]] void fail_tensor(std::string_view name, const char* at,
                                const std::string& what) const {
    fail_at(at, "tensor " + quote(name) + ": " + what);
  }

  void check_frame() const;
  bool add(const PlainEntry& entry);
  std::optional<DType> dtype_of(std::string_view text);
  void read_metadata(ondemand::value value, const char* at);
  void read_tensor(std::string_view name, ondemand::value value, const char* at);
  Shape read_shape(std::string_view name, ondemand::value& value, const char* at) const;
  void read_offsets(TensorInfo& tensor, ondemand::value& value, const char* at) const;

  std::string_view json_;
  std::uint32_t shard_;
  const std::string& source_;
  const CheckpointLimits& limits_;
  std::vector<TensorInfo>& tensors_;
  std::size_t first_;  // index of this header's first tensor in tensors_
  UniqueNames& names_;
  std::string dtype_text_;  // the last dtype read, as it is spelled
  DType dtype_ = DType::kF32;
};

// The header is one JSON object. As in the reference, white space of JSON may stand around it; most
// writers pad with spaces.
void Header::check_frame() const {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = json_.find_first_not_of(kSpace);
  if (first == json_.npos || json_[first] != '{') {
    fail("the header does not begin with '{' (byte 8): this is not a safetensors file");
  }
  const std::size_t last = json_.find_last_not_of(kSpace);
  if (json_[last] != '}') {
    fail_at(json_.data() + last, "the header does not end with '}' and padding spaces");
  }
}

bool Header::read_plain() {
  PlainHeader header(json_);
  PlainEntry entry;
  while (header.next(entry)) {
    if (!add(entry)) break;
  }
  if (header.complete()) return true;
  tensors_.resize(first_);
  names_.restart(static_cast<std::uint32_t>(first_));
  return false;
}

// Appends a tensor. Returns false if its entry breaks a rule.
bool Header::add(const PlainEntry& entry) {
  const auto name_of = [&](std::uint32_t i) -> std::string_view { return tensors_[i].name; };
  if (entry.name.empty() || entry.name.size() > limits_.name_bytes ||
      tensors_.size() >= limits_.tensors || entry.shape.size() > limits_.rank ||
      entry.begin > entry.end || names_.add(entry.name, name_of) != NameTable::kAbsent) {
    return false;
  }
  const auto dtype = dtype_of(entry.dtype);
  if (!dtype || dtype == DType::kF4) return false;  // read() handles elements of half a byte
  if (tensor_bytes(*dtype, entry.shape) != entry.end - entry.begin) return false;
  TensorInfo& tensor = tensors_.emplace_back();
  tensor.name = entry.name;
  tensor.dtype = *dtype;
  tensor.shape = entry.shape;
  tensor.shard = shard_;
  tensor.begin = entry.begin;
  tensor.end = entry.end;
  return true;
}

// Remembers the last dtype, because neighbouring tensors mostly have the same.
std::optional<DType> Header::dtype_of(std::string_view text) {
  if (text == dtype_text_) return dtype_;
  const auto dtype = parse_dtype(text);
  if (dtype) {
    dtype_ = *dtype;
    dtype_text_ = text;
  }
  return dtype;
}

void Header::read(ondemand::parser& parser) {
  check_frame();
  ondemand::document document;
  const auto capacity = json_.size() + simdjson::SIMDJSON_PADDING;
  if (auto error = parser.iterate(json_.data(), json_.size(), capacity).get(document)) {
    fail(describe(error));
  }
  ondemand::object object;
  if (auto error = document.get_object().get(object)) fail(describe(error));
  bool metadata = false;
  const char* at = json_.data();
  for (auto result : object) {
    ondemand::field field;
    if (auto error = std::move(result).get(field)) fail_at(at, describe(error));
    at = field.key().raw() - 1;
    std::string_view name;
    if (auto error = field.unescaped_key().get(name)) fail_at(at, describe(error));
    if (name == "__metadata__") {
      if (std::exchange(metadata, true)) fail_at(at, "the key '__metadata__' appears twice");
      read_metadata(field.value(), at);
    } else {
      read_tensor(name, field.value(), at);
    }
  }
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) {
    fail("the header goes on after its closing '}'");
  }
}

// Nobody needs the metadata; they are only checked. null stands for none, and of a key that comes
// twice, the reference takes the last.
void Header::read_metadata(ondemand::value value, const char* at) {
  bool null = false;
  if (!value.is_null().get(null) && null) return;
  ondemand::object object;
  if (value.get_object().get(object)) fail_at(at, "'__metadata__' is not an object");
  for (auto result : object) {
    ondemand::field field;
    if (auto error = std::move(result).get(field)) fail_at(at, describe(error));
    at = field.key().raw() - 1;
    std::string_view key;
    std::string_view text;
    if (auto error = field.unescaped_key().get(key)) fail_at(at, describe(error));
    if (field.value().get_string().get(text)) {
      fail_at(at, "'__metadata__': the value of " + quote(key) + " is not a string");
    }
  }
}

void Header::read_tensor(std::string_view name, ondemand::value value, const char* at) {
  if (name.empty()) fail_at(at, "a tensor has an empty name");
  if (name.size() > limits_.name_bytes) {
    fail_tensor(name, at,
                "the name has " + std::to_string(name.size()) + " bytes, the limit is " +
                    std::to_string(limits_.name_bytes));
  }
  const auto name_of = [&](std::uint32_t i) -> std::string_view { return tensors_[i].name; };
  const std::uint32_t known = names_.add(name, name_of);
  if (known == NameTable::kAbsent && tensors_.size() >= limits_.tensors) {
    fail_tensor(name, at, "more than " + std::to_string(limits_.tensors) + " tensors");
  }
  ondemand::object object;
  if (value.get_object().get(object)) fail_tensor(name, at, "the entry is not an object");

  TensorInfo tensor;
  tensor.name = name;
  tensor.shard = shard_;
  enum : unsigned { kDtype = 1, kShape = 2, kOffsets = 4 };
  unsigned seen = 0;
  for (auto result : object) {
    ondemand::field field;
    if (auto error = std::move(result).get(field)) fail_tensor(name, at, describe(error));
    at = field.key().raw() - 1;
    std::string_view key;
    if (auto error = field.unescaped_key().get(key)) fail_tensor(name, at, describe(error));
    const unsigned bit = key == "dtype"          ? kDtype
                         : key == "shape"        ? kShape
                         : key == "data_offsets" ? kOffsets
                                                 : 0u;
    if (bit == 0) continue;  // the reference passes over keys that it does not know
    if ((seen & bit) != 0) fail_tensor(name, at, "the key " + quote(key) + " appears twice");
    seen |= bit;
    if (bit == kDtype) {
      std::string_view text;
      if (field.value().get_string().get(text)) fail_tensor(name, at, "dtype is not a string");
      const auto dtype = dtype_of(text);
      if (!dtype) fail_tensor(name, at, "unknown dtype " + quote(text));
      tensor.dtype = *dtype;
    } else if (bit == kShape) {
      tensor.shape = read_shape(name, field.value(), at);
    } else {
      read_offsets(tensor, field.value(), at);
    }
  }
  if ((seen & kDtype) == 0) fail_tensor(name, at, "the key 'dtype' is missing");
  if ((seen & kShape) == 0) fail_tensor(name, at, "the key 'shape' is missing");
  if ((seen & kOffsets) == 0) fail_tensor(name, at, "the key 'data_offsets' is missing");

  // The packed 4-bit type is stored two to a byte along the last dimension.
  if (tensor.dtype == DType::kF4 && (tensor.shape.empty() || tensor.shape.back() % 2 != 0)) {
    fail_tensor(name, at, "F4 needs a last dimension that is even");
  }
  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) fail_tensor(name, at, "the shape's size overflows or is not a whole number of bytes");
  if (tensor.bytes() != *bytes) {
    fail_tensor(name, at,
                "data_offsets span " + std::to_string(tensor.bytes()) +
                    " bytes, dtype and shape need " + std::to_string(*bytes));
  }
  if (known == NameTable::kAbsent) {
    tensors_.push_back(std::move(tensor));
  } else {
    tensors_[known] = std::move(tensor);  // the last of a name counts, as in the reference
  }
}

Shape Header::read_shape(std::string_view name, ondemand::value& value, const char* at) const {
  ondemand::array array;
  if (value.get_array().get(array)) fail_tensor(name, at, "shape is not an array");
  Shape shape;
  for (auto element : array) {
    std::uint64_t dim = 0;
    if (element.get_uint64().get(dim)) {
      fail_tensor(
          name, at,
          "shape[" + std::to_string(shape.size()) + "] is not a non-negative 64-bit integer");
    }
    if (shape.size() >= limits_.rank) {
      fail_tensor(name, at, "more than " + std::to_string(shape.size()) + " dimensions");
    }
    shape.push_back(dim);
  }
  return shape;
}

void Header::read_offsets(TensorInfo& tensor, ondemand::value& value, const char* at) const {
  ondemand::array array;
  if (value.get_array().get(array)) fail_tensor(tensor.name, at, "data_offsets is not an array");
  std::uint64_t ends[2] = {0, 0};
  std::size_t count = 0;
  for (auto element : array) {
    std::uint64_t offset = 0;
    if (element.get_uint64().get(offset)) {
      fail_tensor(
          tensor.name, at,
          "data_offsets[" + std::to_string(count) + "] is not a non-negative 64-bit integer");
    }
    if (count == 2) fail_tensor(tensor.name, at, "data_offsets has more than two elements");
    ends[count++] = offset;
  }
  if (count != 2) fail_tensor(tensor.name, at, "data_offsets has fewer than two elements");
  if (ends[0] > ends[1]) fail_tensor(tensor.name, at, "data_offsets end before they begin");
  tensor.begin = ends[0];
  tensor.end = ends[1];
}

// Sorts the tensors by offset, checks that they cover the data exactly, and turns the offsets,
// which count from the end of the header, into offsets in the file.
void Header::check_layout(std::uint64_t file_bytes) {
  const auto begin = tensors_.begin() + static_cast<std::ptrdiff_t>(first_);
  const auto order = [](const TensorInfo& a, const TensorInfo& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  };
  if (!std::is_sorted(begin, tensors_.end(), order)) std::stable_sort(begin, tensors_.end(), order);

  const std::uint64_t data = kLengthBytes + json_.size();
  std::uint64_t end = 0;
  const TensorInfo* previous = nullptr;
  for (auto tensor = begin; tensor != tensors_.end(); ++tensor) {
    if (tensor->begin != end) {
      const std::string after =
          previous ? "tensor " + quote(previous->name) + " ends at " : "the data begins at ";
      fail("tensor " + quote(tensor->name) + ": its data_offsets begin at " +
           std::to_string(tensor->begin) + ", but " + after + std::to_string(end) +
           (tensor->begin < end ? ": they overlap" : ": the bytes between belong to no tensor"));
    }
    end = tensor->end;
    previous = &*tensor;
  }
  std::uint64_t expected = 0;
  const bool overflow = __builtin_add_overflow(data, end, &expected);
  const std::string last = previous ? ", up to tensor " + quote(previous->name) : "";
  if (overflow || file_bytes < expected) {
    fail("the file is truncated: the header accounts for " +
         (overflow ? "more than 2^64" : std::to_string(expected)) + " bytes" + last +
         ", the file has " + std::to_string(file_bytes));
  }
  if (file_bytes > expected) {
    fail("the file has " + std::to_string(file_bytes) + " bytes, the header accounts for " +
         std::to_string(expected) + last + ": " + std::to_string(file_bytes - expected) +
         " surplus bytes at the end");
  }
  for (auto tensor = begin; tensor != tensors_.end(); ++tensor) {
    tensor->begin += data;
    tensor->end += data;
  }
}

}  // namespace

std::uint64_t read_header_length(std::string_view first_bytes, std::uint64_t file_bytes,
                                 const std::string& source, const CheckpointLimits& limits) {
  if (file_bytes < kLengthBytes || first_bytes.size() < kLengthBytes) {
    throw Error(source + ": the file has " + std::to_string(file_bytes) +
                " bytes, too few for a safetensors header: it is truncated or empty");
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::uint64_t{static_cast<unsigned char>(first_bytes[i])} << (8 * i);
  }
  if (length > limits.header_bytes) {
    throw Error(source + ": the header claims " + std::to_string(length) + " bytes, the limit is " +
                std::to_string(limits.header_bytes) + " (byte 0): this is not a safetensors file");
  }
  if (length > file_bytes - kLengthBytes) {
    throw Error(source + ": the header claims " + std::to_string(length) +
                " bytes (byte 0), but the file has " + std::to_string(file_bytes) +
                ": it is truncated");
  }
  return length;
}

void HeaderParser::parse(std::string_view json, std::uint64_t file_bytes, std::uint32_t shard,
                         const std::string& source, const CheckpointLimits& limits,
                         std::vector<TensorInfo>& tensors) {
  names_.restart(static_cast<std::uint32_t>(tensors.size()));
  Header header(json, shard, source, limits, tensors, names_);
  if (!header.read_plain()) header.read(parser_);
  header.check_layout(file_bytes);
}

void parse_safetensors_header(std::string_view head, std::uint64_t file_bytes, std::uint32_t shard,
                              const std::string& source, const CheckpointLimits& limits,
                              std::vector<TensorInfo>& tensors) {
  const std::uint64_t length = read_header_length(head, file_bytes, source, limits);
  if (head.size() - kLengthBytes < length) {
    throw Error(source + ": only " + std::to_string(head.size()) + " bytes of a header of " +
                std::to_string(kLengthBytes + length) + " were given");
  }
  const simdjson::padded_string padded(head.substr(kLengthBytes, length));
  HeaderParser().parse(std::string_view(padded.data(), length), file_bytes, shard, source, limits,
                       tensors);
}

}  // namespace berth
