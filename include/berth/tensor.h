// What a tensor is: its element type and its shape.
//
// The element types are those of the safetensors format, the block formats of GGUF, and some that
// exist in memory only. A block format stores a fixed number of neighbouring elements of a row in
// one block of bytes, with scales of its own, so that a single element has no size. Every type is
// given a block, so that all sizes are worked out in the same way; the block of a plain type is one
// element, or the few elements that fill whole bytes.
//
// Everything here is a plain value. Nothing throws except std::bad_alloc.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace berth {

enum class DType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
  // GGUF's, as ggml defines them.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  // GGUF's that no kernel decodes: they are planned, loaded and checked as they are stored.
  kQ8_1,
  kQ2_K,
  kQ3_K,
  kQ8_K,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ3_XXS,
  kIQ1_S,
  kIQ4_NL,
  kIQ3_S,
  kIQ2_S,
  kIQ4_XS,
  kIQ1_M,
  kQ4_0_4_4,
  kQ4_0_4_8,
  kQ4_0_8_8,
  kTQ1_0,
  kTQ2_0,
  kIQ4_NL_4_4,
  kIQ4_NL_4_8,
  kIQ4_NL_8_8,
  kMXFP4,
  kNVFP4,
  kQ1_0,
  // Quantised weights of several stored tensors in one, which no file holds: codes of 4 bits with a
  // scale (f32) and a zero point (a byte), and FP8 with a scale (f32), for each 32, 64 or 128
  // columns of a row. Only kernels for host memory compute with them
  // (runtime/kernels/group_tiles.h).
  kU4G32,
  kU4G64,
  kU4G128,
  kF8E4M3G32,
  kF8E4M3G64,
  kF8E4M3G128,
  kF8E5M2G32,
  kF8E5M2G64,
  kF8E5M2G128,
};
inline constexpr DType kLastDType = DType::kF8E5M2G128;

// "BF16", "Q4_1": as safetensors headers spell it, or ggml. parse_dtype() is the inverse for the
// types that safetensors has, so not for block formats; nothing for any other text.
std::string_view dtype_name(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);

// "bfloat16": as torch and config.json spell it; empty for a type that torch does not have.
std::string_view torch_dtype_name(DType dtype);
std::optional<DType> parse_torch_dtype(std::string_view name);  // "torch.bfloat16", too

// "bfloat16", "q4_k": as torch spells it, or else ggml in small letters. Machine files and reports
// call the formats of weights so.
std::string weight_format_name(DType dtype);

// The type whose measured speed stands for this one's: of those that exist in memory only the one
// of the same codes, E4M3 for FP8, with groups of 128; every other type itself.
DType timed_as(DType dtype);

// Elements that are stored together, and the bytes they take.
struct DTypeBlock {
  std::uint16_t elements;
  std::uint16_t bytes;
};
constexpr DTypeBlock dtype_block(DType dtype) {
  constexpr DTypeBlock kBlocks[] = {
      {1, 1},
      {1, 1},
      {1, 1},
      {1, 1},
      {1, 1},
      {1, 1},
      {1, 1},
      {1, 1},
      {2, 1},
      {4, 3},
      {4, 3},
      {1, 2},
      {1, 2},
      {1, 2},
      {1, 2},
      {1, 4},
      {1, 4},
      {1, 4},
      {1, 8},
      {1, 8},
      {1, 8},
      {1, 8},
      {32, 18},
      {32, 20},
      {32, 22},
      {32, 24},
      {32, 34},
      {256, 144},
      {256, 176},
      {256, 210},
      // As gguf-py's GGML_QUANT_SIZES has them; repacked types take what they were packed from.
      {32, 40},
      {256, 84},
      {256, 110},
      {256, 292},
      {256, 66},
      {256, 74},
      {256, 98},
      {256, 50},
      {32, 18},
      {256, 110},
      {256, 82},
      {256, 136},
      {256, 56},
      {32, 18},
      {32, 18},
      {32, 18},
      {256, 54},
      {256, 66},
      {32, 18},
      {32, 18},
      {32, 18},
      {32, 17},
      {64, 36},
      {128, 18},
      {32, 21},
      {64, 37},
      {128, 69},
      {32, 36},
      {64, 68},
      {128, 132},
      {32, 36},
      {64, 68},
      {128, 132}};
  return kBlocks[static_cast<std::size_t>(dtype)];
}

// True for the block formats of GGUF, and for those that exist in memory only.
constexpr bool is_block_format(DType dtype) { return dtype >= DType::kQ4_0; }

// True for the block formats that exist in memory only.
constexpr bool is_grouped_format(DType dtype) { return dtype >= DType::kU4G32; }

// True for the block formats that are turned into floats: their blocks have a kernel. The others
// can only be kept as they are stored.
constexpr bool is_decodable(DType dtype) { return dtype >= DType::kQ4_0 && dtype <= DType::kQ6_K; }

// Width of one element in bits (4, 6, 8, 16, 32 or 64); 0 for a block format, which has none.
constexpr unsigned dtype_bits(DType dtype) {
  return is_block_format(dtype) ? 0 : 8u * dtype_block(dtype).bytes / dtype_block(dtype).elements;
}

// True for F16, BF16, F32 and F64. These are what open_model() converts where it is given a dtype,
// and decodable block formats are turned into them. FP8 and integers stay as they are.
bool is_convertible(DType dtype);

// True where load() and convert() can turn `from` into `to`: equal types, two of the types above,
// or a decodable block format into one of them.
bool can_convert(DType from, DType to);

// Size of a tensor in bytes. Nothing where that overflows 64 bits or is not a whole number of
// bytes, or where a row of a block format is not a whole number of blocks.
inline std::optional<std::uint64_t> tensor_bytes(DType dtype,
                                                 std::span<const std::uint64_t> shape) {
  const DTypeBlock block = dtype_block(dtype);
  if (is_block_format(dtype) && (shape.empty() || shape.back() % block.elements != 0)) {
    return std::nullopt;
  }
  std::uint64_t bits = std::uint64_t{8} * block.bytes;  // of as many blocks as there are elements
  for (const std::uint64_t size : shape) {
    if (__builtin_mul_overflow(bits, size, &bits)) return std::nullopt;
  }
  const std::uint64_t whole = std::uint64_t{8} * block.elements;
  if (bits % whole != 0) return std::nullopt;
  return bits / whole;
}

// The bytes that elements take as `to` if they take `bytes` as `from`. Both must be whole blocks.
constexpr std::uint64_t converted_bytes(std::uint64_t bytes, DType from, DType to) {
  if (from == to) return bytes;
  const std::uint64_t elements = bytes / dtype_block(from).bytes * dtype_block(from).elements;
  return elements / dtype_block(to).elements * dtype_block(to).bytes;
}

// A tensor's shape: a vector of sizes, outermost dimension first, that keeps up to two in place.
//
// A large model has tens of thousands of shapes, and nearly all have one or two dimensions. Kept in
// place they cost no allocation.
class Shape {
 public:
  using value_type = std::uint64_t;

  Shape() = default;
  Shape(Shape&& other) noexcept { swap(other); }
  Shape(const Shape& other) { copy(other); }
  Shape& operator=(Shape other) noexcept {
    swap(other);
    return *this;
  }
  Shape(std::initializer_list<std::uint64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  template <typename Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }

  void push_back(std::uint64_t size) {
    if (rank_ >= kInPlace) grow();
    ++rank_;
    data()[rank_ - 1] = size;
  }

  std::size_t size() const { return rank_; }  // the rank
  bool empty() const { return rank_ == 0; }
  const std::uint64_t* data() const { return rank_ <= kInPlace ? few_ : many_.get(); }
  std::uint64_t* data() { return rank_ <= kInPlace ? few_ : many_.get(); }
  const std::uint64_t* begin() const { return data(); }
  const std::uint64_t* end() const { return data() + rank_; }
  std::uint64_t* begin() { return data(); }
  std::uint64_t* end() { return data() + rank_; }
  std::uint64_t operator[](std::size_t i) const { return data()[i]; }
  std::uint64_t& operator[](std::size_t i) { return data()[i]; }
  std::uint64_t back() const { return data()[rank_ - 1]; }

  bool operator==(const Shape& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }
  bool operator<(const Shape& other) const {  // in dictionary order
    return std::lexicographical_compare(begin(), end(), other.begin(), other.end());
  }

 private:
  static constexpr std::size_t kInPlace = 2;

  // Makes a new array for each dimension: shapes with more than two are rare, and never long.
  void grow() {
    auto more = std::make_unique<std::uint64_t[]>(rank_ + 1);
    std::copy(begin(), end(), more.get());
    many_ = std::move(more);
  }
  void copy(const Shape& other) {
    if (other.rank_ > kInPlace) many_ = std::make_unique<std::uint64_t[]>(other.rank_);
    rank_ = other.rank_;
    std::copy(other.begin(), other.end(), data());
  }
  void swap(Shape& other) noexcept {
    std::swap(few_, other.few_);
    std::swap(rank_, other.rank_);
    std::swap(many_, other.many_);
  }

  std::uint64_t few_[kInPlace] = {};
  std::size_t rank_ = 0;
  std::unique_ptr<std::uint64_t[]> many_;  // all of them where there are more than kInPlace
};

}  // namespace berth
