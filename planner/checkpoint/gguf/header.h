// The head of one GGUF file: its metadata, and where its tensors are. Versions 2 and 3,
// little-endian, as ggml's docs/gguf.md says.
//
// Nothing in a file is believed: counts and lengths are compared with what the file can hold before
// anything is allocated, sums are checked, and what is wrong is an Error naming file, key or
// tensor, and byte. No byte of weights is needed; a reader gets some only where it reads ahead.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"

namespace berth {

inline constexpr std::string_view kGgufExtension = ".gguf";

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

// A metadata value by its place in the head; of an array, that of its first element.
struct GgufValue {
  std::uint64_t key_at = 0;
  std::uint32_t key_bytes = 0;
  GgufType type = GgufType::kU8;  // of an array: of its elements
  bool array = false;
  std::uint64_t count = 1;
  std::uint64_t at = 0;  // first byte of the value; of a string, of its length
};

struct GgufTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;              // slowest dimension first, as everywhere here
  std::uint64_t begin = 0;  // bytes [begin, end) of the file
  std::uint64_t end = 0;
};

// Immutable after parsing. A value of another type than asked for is an Error naming the key; an
// absent one is nullopt or empty.
class GgufHeader {
 public:
  const std::string& source() const { return source_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // by offset

  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::optional<std::uint64_t> unsigned_integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;  // one where it is no array
  std::vector<double> numbers(std::string_view key) const;         // the same

  [[noreturn]] void fail(std::string_view key, const std::string& what) const;

 private:
  friend class GgufParser;

  const GgufValue* find(std::string_view key) const;
  std::string_view key_of(const GgufValue& value) const;
  std::optional<std::int64_t> integer_at(GgufType type, std::uint64_t at) const;
  std::optional<double> number_at(GgufType type, std::uint64_t at) const;

  std::string source_;
  std::string bytes_;  // of the file, from its start up to the end of the tensors' descriptions
  std::vector<GgufValue> values_;  // by key
  std::vector<GgufTensor> tensors_;
};

// Appends to `head` so that it holds at least `wanted` bytes of the file, which has as many.
using ReadHead = std::function<void(std::string& head, std::uint64_t wanted)>;

// Parses the head of a file of `file_bytes` bytes. The unit that is fuzzed.
GgufHeader parse_gguf_header(std::uint64_t file_bytes, const std::string& source,
                             const CheckpointLimits& limits, const ReadHead& read_head);

// The same of a file on disk; `identity` gets what a Shard remembers of it.
GgufHeader read_gguf_header(const std::filesystem::path& path, const CheckpointLimits& limits,
                            Shard& identity);

}  // namespace berth
