// The head of one GGUF file: its metadata, and where its tensors are. Reads versions 2 and 3,
// little-endian, as ggml's docs/gguf.md describes them.
//
// A file is not trusted: before anything is allocated, counts and lengths are compared with what
// the file can hold, and sums are checked for overflow. Whatever is wrong throws an Error that
// names the file, the key or tensor, and the byte. Parsing needs no byte of the weights; it may
// read some of them, because it reads ahead.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"

namespace berth {

inline constexpr std::string_view kGgufExtension = ".gguf";

// The metadata key of files that have matrices in tiles: the version of the tiles' layout.
inline constexpr std::string_view kTilesKey = "berth.tiles";

enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// A metadata value: where its key and the value itself stand in the head. Offsets count bytes from
// the start of the file. `count` is the number of elements of an array; `at` is then the first of
// them.
struct GgufValue {
  std::uint64_t key_at = 0;
  std::uint32_t key_bytes = 0;
  GgufType type = GgufType::kU8;  // of an array: the type of its elements
  bool array = false;
  std::uint64_t count = 1;
  std::uint64_t at = 0;  // first byte of the value; of a string, the first byte of its length
  std::uint64_t end = 0;
};

struct GgufTensor {
  std::string name;
  DType dtype = DType::kF32;
  bool tiled = false;       // its matrices are in tiles (StoredForm::tiled)
  Shape shape;              // slowest dimension first, as everywhere in Berth
  std::uint64_t begin = 0;  // bytes [begin, end) of the file
  std::uint64_t end = 0;
};

// Does not change after parsing, so many threads may read it. Asking for a value by another type
// than it has throws an Error that names the key; an absent value is nullopt or empty.
class GgufHeader {
 public:
  const std::string& source() const { return source_; }
  const std::vector<GgufTensor>& tensors() const {
    return tensors_;
  }  // in the order of their offsets

  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool is_list(std::string_view key) const;  // false for a key that is absent
  std::optional<std::uint64_t> unsigned_integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<std::int64_t> integers(
      std::string_view key) const;  // a single number counts as a list of one
  std::vector<double> numbers(std::string_view key) const;  // the same

  // All metadata in the order of the file: the keys, and the bytes that say key, type and value.
  struct Entry {
    std::string_view key;
    std::string_view bytes;
  };
  std::vector<Entry> entries() const;

  // "file: key", for errors about a value; fail() throws one.
  std::string position(std::string_view key) const;
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;

 private:
  friend class GgufParser;

  const GgufValue* find(std::string_view key) const;
  std::string_view key_of(const GgufValue& value) const;
  std::optional<std::int64_t> integer_at(GgufType type, std::uint64_t at) const;
  std::optional<double> number_at(GgufType type, std::uint64_t at) const;

  std::string source_;
  std::string bytes_;              // the file from its start to the end of the tensor descriptions
  std::vector<GgufValue> values_;  // sorted by key
  std::vector<GgufTensor> tensors_;
};

// Reads on: makes `head` at least `wanted` bytes long. The file has that many.
using ReadHead = std::function<void(std::string& head, std::uint64_t wanted)>;

// Parses the head of a file of `file_bytes` bytes; `source` names the file in messages. The fuzzer
// calls this function.
GgufHeader parse_gguf_header(std::uint64_t file_bytes, const std::string& source,
                             const CheckpointLimits& limits, const ReadHead& read_head);

// Parses the head of a file on disk. `identity` receives what a Shard remembers of the file.
GgufHeader read_gguf_header(const std::filesystem::path& path, const CheckpointLimits& limits,
                            Shard& identity);

}  // namespace berth
