#include "planner/checkpoint/torch/file.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/stand_in.h"
#include "planner/checkpoint/torch/globals.h"
#include "planner/checkpoint/torch/pickle.h"
#include "planner/checkpoint/torch/state_dict.h"
#include "planner/checkpoint/torch/zip_archive.h"

namespace berth {
namespace {

constexpr std::string_view kZipMark = "PK\x03\x04";
constexpr std::string_view kPickle = "/data.pkl";

// The first pickle of the older format is the number 0x1950a86a20f9469cfc6c: ten bytes from
// protocol 2 on, text before.
constexpr std::string_view kLegacyMark("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13);
constexpr std::string_view kLegacyTextMark = "L119547037146038801333356L\n.";
constexpr std::string_view kFrame = "\x95";  // and eight bytes, which protocols from 4 on put first
constexpr std::uint64_t kLegacyVersion = 1001;
constexpr std::uint64_t kFirstWindow = 64u << 10;

std::string read_text(const ByteSource& file, std::uint64_t offset, std::uint64_t count) {
  std::string text(count, '\0');
  file.read(offset, text.data(), count);
  return text;
}

// What is read of a file, and where it goes.
struct Reading {
  std::uint32_t shard;
  std::string_view part;
  const CheckpointLimits& limits;
  Checkpoint& checkpoint;
};

// Gives each form a number as TensorInfo::form has it; equal forms get the same.
class Forms {
 public:
  explicit Forms(std::vector<StoredForm>& forms) : forms_(forms) {}

  std::uint32_t number(const NamedTensor& named) {
    if (named.strides.empty()) return 0;
    StoredForm form;
    for (std::size_t i = 0; i < named.shape.size(); ++i) {
      if (named.shape[i] == 1) continue;
      form.sizes.push_back(named.shape[i]);
      form.strides.push_back(named.strides[i]);
    }
    const auto [at, is_new] = numbers_.try_emplace({form.sizes, form.strides});
    if (is_new) {
      forms_.push_back(std::move(form));
      at->second = static_cast<std::uint32_t>(forms_.size());
    }
    return at->second;
  }

 private:
  std::vector<StoredForm>& forms_;
  std::map<std::pair<Shape, Shape>, std::uint32_t> numbers_;
};

// How many bytes a tensor spans in its storage, from its first element to its last; nothing where
// that overflows. `dense` is what its elements take side by side.
std::optional<std::uint64_t> spanned_bytes(const NamedTensor& named, std::uint64_t width,
                                           std::uint64_t dense) {
  if (named.strides.empty() || dense == 0) return dense;
  std::uint64_t span = 1;
  for (std::size_t i = 0; i < named.shape.size(); ++i) {
    std::uint64_t reach = 0;
    if (__builtin_mul_overflow(named.shape[i] - 1, named.strides[i], &reach) ||
        __builtin_add_overflow(span, reach, &span)) {
      return std::nullopt;
    }
  }
  if (__builtin_mul_overflow(span, width, &span)) return std::nullopt;
  return span;
}

// Turns the tensors of a state dict into byte ranges. `locate` says where the data of a storage is;
// it is called once for each key.
template <typename LocateStorage>
void append_tensors(const PickleMachine& machine, const TorchHost& host, PickleValue root,
                    const Reading& reading, const LocateStorage& locate) {
  std::vector<TensorInfo>& tensors = reading.checkpoint.tensors;
  const std::size_t first = tensors.size();
  std::map<std::string_view, ByteRange> located;
  Forms forms(reading.checkpoint.forms);
  for (const NamedTensor& named :
       find_state_dict(machine, host, root, reading.part, reading.limits)) {
    const TorchTensor& tensor = *named.tensor;
    const auto fail = [&](const std::string& what) {
      machine.fail(tensor.at, "tensor " + quote(named.name) + ": " + what);
    };
    if (tensors.size() >= reading.limits.tensors) {
      fail("more than " + std::to_string(reading.limits.tensors) + " tensors");
    }
    const TorchStorage& storage = host.storages()[tensor.storage];
    const std::string_view key = machine.text(storage.key);
    const auto dense = tensor_bytes(tensor.dtype, named.shape);
    if (!dense) fail("the shape's size overflows or is not a whole number of bytes");

    auto at = located.find(key);
    if (at == located.end()) at = located.emplace(key, locate(named, storage)).first;
    const ByteRange range = at->second;
    if (storage.bytes() > range.bytes()) {
      fail("storage " + quote(key) + " is said to have " + std::to_string(storage.bytes()) +
           " bytes, the file holds " + std::to_string(range.bytes()) + " of it");
    }
    const std::uint64_t width = dtype_bits(tensor.dtype) / 8;
    const auto bytes = spanned_bytes(named, width, *dense);
    const std::uint64_t held = storage.count * storage.width;
    std::uint64_t begin = 0;
    const bool empty = *dense == 0;  // its offset may be anything
    if (!empty && (!bytes || __builtin_mul_overflow(tensor.offset, width, &begin) || begin > held ||
                   held - begin < *bytes)) {
      fail("its " + std::to_string(bytes.value_or(*dense)) + " bytes at element " +
           std::to_string(tensor.offset) + " run past storage " + quote(key) + ", which has " +
           std::to_string(held));
    }
    begin += range.begin + storage.begin * storage.width;
    TensorInfo info;
    info.name = named.name;
    info.dtype = tensor.dtype;
    info.shape = named.shape;
    info.shard = reading.shard;
    info.form = forms.number(named);
    info.begin = begin;
    info.end = begin + *bytes;
    tensors.push_back(std::move(info));
  }
  std::stable_sort(tensors.begin() + static_cast<std::ptrdiff_t>(first), tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
}

// The length in bytes of the first pickle, if `head` begins with the mark of the older format; else
// 0. Throws Error if the file has that format, but a pickle protocol that is not read.
std::size_t find_legacy_mark(std::string_view head, const std::string& source) {
  const auto refuse = [&](const std::string& protocol) {
    throw Error(source + ": the pickle protocol of this file of torch.save, " + protocol +
                ", is not supported (2 to 5 are): save it again with another pickle_protocol");
  };
  if (head.starts_with(kLegacyTextMark)) refuse("0 or 1");
  if (head.size() < 2 || head[0] != '\x80') return 0;
  const auto protocol = static_cast<unsigned char>(head[1]);
  std::size_t at = 2;
  if (head.substr(at).starts_with(kFrame)) at = std::min(at + kFrame.size() + 8, head.size());
  if (!head.substr(at).starts_with(kLegacyMark)) return 0;
  if (protocol < 2 || protocol > 5) refuse(std::to_string(protocol));
  return at + kLegacyMark.size();
}

// A file in the ZIP format.
class TorchArchive {
 public:
  explicit TorchArchive(const ByteSource& file) : file_(file), zip_(file) { find_root(); }

  void read(const Reading& reading) {
    check_byte_order();
    const ZipEntry& entry = *zip_.find(root_ + std::string(kPickle));
    const ByteRange range = zip_.locate(entry);
    const PickleLimits most;
    if (range.bytes() > most.bytes) {
      throw Error(file_.name + ": zip entry " + quote(entry.name) + ": has " +
                  std::to_string(range.bytes()) + " bytes, the limit is " +
                  std::to_string(most.bytes));
    }
    const std::string pickle = read_text(file_, range.begin, range.bytes());
    TorchHost host;
    PickleMachine machine(pickle, file_.name + ": " + std::string(entry.name), range.begin, host,
                          most);
    const PickleValue root = machine.run();
    append_tensors(machine, host, root, reading,
                   [&](const NamedTensor& named, const TorchStorage& storage) {
                     return locate(machine, named, storage);
                   });
  }

 private:
  // All entries stand below one folder. It has the name that the file had when it was written.
  void find_root() {
    std::optional<std::string_view> root;
    for (const ZipEntry& entry : zip_.entries()) {
      if (!entry.name.ends_with(kPickle)) continue;
      const std::string_view folder = entry.name.substr(0, entry.name.size() - kPickle.size());
      if (folder.find('/') != folder.npos) continue;
      if (root) {
        throw Error(file_.name + ": the archive holds both " +
                    quote(std::string(*root) + std::string(kPickle)) + " and " + quote(entry.name));
      }
      root = folder;
    }
    if (!root) {
      throw Error(file_.name +
                  ": a zip archive, but not one of PyTorch's: it holds no NAME/data.pkl");
    }
    root_ = *root;
    if (zip_.find(root_ + "/constants.pkl") != nullptr) {
      throw Error(file_.name +
                  ": a TorchScript archive, which holds a program: save the state dict of the "
                  "module with torch.save");
    }
  }

  void check_byte_order() {
    const ZipEntry* entry = zip_.find(root_ + "/byteorder");
    if (entry == nullptr) return;  // older releases write none and were little-endian in practice
    const ByteRange range = zip_.locate(*entry);
    const std::string order =
        read_text(file_, range.begin, std::min<std::uint64_t>(range.bytes(), 16));
    if (order == "little") return;
    throw Error(file_.name + ": zip entry " + quote(entry->name) + ": the byte order is " +
                quote(order) +
                "; only little-endian files are read: load it with torch and save it again (byte " +
                std::to_string(range.begin) + ")");
  }

  ByteRange locate(const PickleMachine& machine, const NamedTensor& named,
                   const TorchStorage& storage) {
    const std::string_view key = machine.text(storage.key);
    const ZipEntry* entry = zip_.find(root_ + "/data/" + std::string(key));
    if (entry == nullptr) {
      machine.fail(named.tensor->at, "tensor " + quote(named.name) + ": its storage " + quote(key) +
                                         " is not in the archive");
    }
    return zip_.locate(*entry);
  }

  const ByteSource& file_;
  ZipArchive zip_;
  std::string root_;
};

// A file in the older format. It begins with five pickles: a mark, a version, the writer's system,
// the object, and the keys of its storages. Then comes, for each key, the number of elements in
// eight bytes, and the data.
class LegacyFile {
 public:
  // `mark_bytes` is the length of the first pickle.
  LegacyFile(const ByteSource& file, std::size_t mark_bytes)
      : file_(file), mark_bytes_(mark_bytes) {}

  // The length of the pickles is known only once they have been read, so this tries again with more
  // of the file until they are whole.
  void read(const Reading& reading) {
    const std::uint64_t most = std::min(file_.size, PickleLimits{}.bytes);
    for (std::uint64_t window = std::min(most, kFirstWindow);;
         window = std::min(most, 4 * window)) {
      const std::string head = read_text(file_, 0, window);
      try {
        return read_head(head, reading);
      } catch (const PickleTruncated&) {
        if (window == most) throw;
      }
    }
  }

 private:
  void read_head(std::string_view head, const Reading& reading) const {
    TorchHost host;
    std::uint64_t at = mark_bytes_;
    const auto next = [&] { return PickleMachine(head.substr(at), file_.name, at, host); };

    PickleMachine version = next();
    if (const PickleValue value = version.run();
        value.kind != PickleKind::kInt || value.payload != kLegacyVersion) {
      version.fail(value.at, "the version of the file is not " + std::to_string(kLegacyVersion));
    }
    at += version.size();
    PickleMachine system = next();
    check_byte_order(system, system.run());
    at += system.size();
    PickleMachine object = next();
    const PickleValue root = object.run();
    at += object.size();
    PickleMachine keys = next();
    const PickleValue list = keys.run();
    at += keys.size();

    const auto ranges = locate_all(object, host, keys, list, at);
    append_tensors(
        object, host, root, reading, [&](const NamedTensor& named, const TorchStorage& storage) {
          const auto found = ranges.find(object.text(storage.key));
          if (found != ranges.end()) return found->second;
          object.fail(named.tensor->at, "tensor " + quote(named.name) + ": its storage " +
                                            quote(object.text(storage.key)) +
                                            " is not in the file");
        });
  }

  static void check_byte_order(const PickleMachine& machine, PickleValue system) {
    if (system.kind != PickleKind::kDict)
      machine.fail(system.at, "the system pickle is not a dict");
    const auto pairs = machine.pairs(system);
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      if (pairs[i].kind != PickleKind::kText || machine.text(pairs[i]) != "little_endian") continue;
      if (pairs[i + 1].kind == PickleKind::kBool && pairs[i + 1].payload == 1) continue;
      machine.fail(pairs[i].at, "the byte order is big-endian; only little-endian files are read");
    }
  }

  // Where the data of each storage is. `list` names the storages in the order of the file, and the
  // first one begins at byte `at`.
  std::map<std::string_view, ByteRange> locate_all(const PickleMachine& object,
                                                   const TorchHost& host, const PickleMachine& keys,
                                                   PickleValue list, std::uint64_t at) const {
    if (list.kind != PickleKind::kList) keys.fail(list.at, "the list of storages is not a list");
    std::map<std::string_view, const TorchStorage*> known;
    for (const TorchStorage& storage : host.storages()) {
      known.emplace(object.text(storage.key), &storage);
    }
    std::map<std::string_view, ByteRange> ranges;
    for (const PickleValue key : keys.items(list)) {
      const std::string_view name = key.kind == PickleKind::kText ? keys.text(key) : "";
      const auto storage = known.find(name);
      if (storage == known.end()) keys.fail(key.at, "the list of storages names an unknown one");
      if (file_.size - at < 8) fail_truncated(name, at);
      const std::string count = read_text(file_, at, 8);
      std::uint64_t elements = 0;
      for (std::size_t i = 8; i-- > 0;) {
        elements = elements << 8 | static_cast<unsigned char>(count[i]);
      }
      at += 8;
      if (elements != storage->second->elements) {
        throw Error(file_.name + ": storage " + quote(name) + " has " + std::to_string(elements) +
                    " elements, the pickle says " + std::to_string(storage->second->elements) +
                    " (byte " + std::to_string(at - 8) + ")");
      }
      const std::uint64_t bytes = storage->second->bytes();
      if (file_.size - at < bytes) fail_truncated(name, at);
      // The key's text must come from `object`: `keys` does not live as long as the result.
      if (!ranges.emplace(storage->first, ByteRange{at, at + bytes}).second) {
        keys.fail(key.at, "storage " + quote(name) + " appears twice");
      }
      at += bytes;
    }
    return ranges;
  }

  [[noreturn]] void fail_truncated(std::string_view storage, std::uint64_t at) const {
    throw Error(file_.name + ": the file is truncated: it ends within storage " + quote(storage) +
                ", which begins at byte " + std::to_string(at));
  }

  const ByteSource& file_;
  std::size_t mark_bytes_;
};

[[noreturn]] void fail_unknown(const ByteSource& file, std::string_view head) {
  refuse_stand_in(head, file.name);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string bytes;
  for (const char c : head.substr(0, 4)) {
    const auto byte = static_cast<unsigned char>(c);
    bytes += {' ', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  throw Error(file.name + ": not a file of torch.save: neither a zip archive nor a pickle of its " +
              "older format" +
              (bytes.empty() ? " (it is empty)" : " (it begins with" + bytes + ")"));
}

}  // namespace

bool is_torch_head(std::string_view head) {
  if (head.starts_with(kZipMark) || head.starts_with(kLegacyTextMark)) return true;
  return head.size() > 2 && head[0] == '\x80' && head.find(kLegacyMark) <= 2 + kFrame.size() + 8;
}

void read_torch_file(const ByteSource& file, std::uint32_t shard, std::string_view part,
                     const CheckpointLimits& limits, Checkpoint& checkpoint) {
  const Reading reading{shard, part, limits, checkpoint};
  const std::string head = read_text(file, 0, std::min<std::uint64_t>(file.size, kStandInBytes));
  if (head.starts_with(kZipMark)) return TorchArchive(file).read(reading);
  if (const std::size_t mark_bytes = find_legacy_mark(head, file.name); mark_bytes > 0) {
    return LegacyFile(file, mark_bytes).read(reading);
  }
  fail_unknown(file, head);
}

}  // namespace berth
