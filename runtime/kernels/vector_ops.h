// Vectors of 64 bytes, and what the loops of this room do with them. Each source file that includes
// this is compiled for one instruction set; a compiler divides the vectors where registers are
// smaller. Every operation gives the same bits on all instruction sets. Everything has internal
// linkage, because the functions differ from file to file.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "cuda/cast_bits.h"

namespace berth {
namespace {

#define BERTH_INLINE [[gnu::always_inline]] inline

using Floats = float __attribute__((vector_size(64)));
using Ints = std::int32_t __attribute__((vector_size(64)));
using Words = std::uint16_t __attribute__((vector_size(64)));
using Bytes = std::uint8_t __attribute__((vector_size(64)));

constexpr int kLanes = 16;

template <class Vector>
BERTH_INLINE Vector load(const void* from) {
  Vector out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

template <class Vector>
BERTH_INLINE void store(Vector vector, void* to) {
  std::memcpy(to, &vector, sizeof vector);
}

// Not 0 + value, which is an addition: it makes 0 of -0.
BERTH_INLINE Floats broadcast(float value) {
  return Floats{value, value, value, value, value, value, value, value,
                value, value, value, value, value, value, value, value};
}
BERTH_INLINE Ints broadcast(std::int32_t value) { return Ints{} + value; }
BERTH_INLINE Floats to_floats(Ints values) { return __builtin_convertvector(values, Floats); }

// A vector that is loaded once, though several operations read it: a compiler may load it for each.
template <class Vector>
BERTH_INLINE Vector in_register(Vector vector) {
#if defined(__AVX512F__)
  asm("" : "+v"(vector));
#endif
  return vector;
}

// A byte, and the same bits of every byte after a shift.
template <int kShift>
BERTH_INLINE Bytes shift_right(Bytes bytes, int mask) {
  const Words words = reinterpret_cast<Words>(bytes) >> kShift;
  return reinterpret_cast<Bytes>(words) & (Bytes{} + static_cast<std::uint8_t>(mask));
}
template <int kShift>
BERTH_INLINE Bytes shift_left(Bytes bytes, int mask) {
  const Words words = reinterpret_cast<Words>(bytes) << kShift;
  return reinterpret_cast<Bytes>(words) & (Bytes{} + static_cast<std::uint8_t>(mask));
}

// a x b + c, rounded once.
BERTH_INLINE Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(_mm512_fmadd_ps(
      reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__FMA__)
  __m256 left[2], right[2], sum[2];
  std::memcpy(left, &a, sizeof a);
  std::memcpy(right, &b, sizeof b);
  std::memcpy(sum, &c, sizeof c);
  for (int i = 0; i < 2; ++i) sum[i] = _mm256_fmadd_ps(left[i], right[i], sum[i]);
  return load<Floats>(sum);
#else
  Floats out;
  for (int i = 0; i < kLanes; ++i) out[i] = ::fmaf(a[i], b[i], c[i]);
  return out;
#endif
}

// Sixteen f16.
BERTH_INLINE Floats halves(const std::byte* from) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(
      _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__)
  __m256 out[2];
  for (int i = 0; i < 2; ++i) {
    out[i] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
  }
  return load<Floats>(out);
#else
  Floats out;
  std::uint16_t half[kLanes];
  std::memcpy(half, from, sizeof half);
  for (int i = 0; i < kLanes; ++i) out[i] = f16_to_float(half[i]);
  return out;
#endif
}

// Sixteen bf16.
BERTH_INLINE Floats bf16_floats(const std::byte* from) {
#if defined(__AVX512F__)
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(_mm512_maskz_cvtepu16_epi32(0xFFFF, words))
                                  << 16);
#elif defined(__AVX2__)
  __m256i out[2];
  for (int i = 0; i < 2; ++i) {
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i);
    out[i] = _mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16);
  }
  return load<Floats>(out);
#else
  std::uint16_t words[kLanes];
  std::memcpy(words, from, sizeof words);
  Ints out;
  for (int i = 0; i < kLanes; ++i) out[i] = static_cast<std::int32_t>(words[i]) << 16;
  return reinterpret_cast<Floats>(out);
#endif
}

// Sixteen unsigned or signed bytes. (Compilers convert vectors of bytes one by one.)
BERTH_INLINE Floats unsigned_bytes(const std::uint8_t* from) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return to_floats(reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, bytes)));
#elif defined(__AVX2__)
  __m256i out[2];
  for (int i = 0; i < 2; ++i) {
    out[i] = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * i)));
  }
  return to_floats(load<Ints>(out));
#else
  Floats out;
  for (int i = 0; i < kLanes; ++i) out[i] = static_cast<float>(from[i]);
  return out;
#endif
}
BERTH_INLINE Floats signed_bytes(const std::int8_t* from) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return to_floats(reinterpret_cast<Ints>(_mm512_maskz_cvtepi8_epi32(0xFFFF, bytes)));
#elif defined(__AVX2__)
  __m256i out[2];
  for (int i = 0; i < 2; ++i) {
    out[i] = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * i)));
  }
  return to_floats(load<Ints>(out));
#else
  Floats out;
  for (int i = 0; i < kLanes; ++i) out[i] = static_cast<float>(from[i]);
  return out;
#endif
}

// For each of 64 indices below 16, the byte of a table.
BERTH_INLINE Bytes look_up(const std::uint8_t (&table)[16], Bytes indices) {
#if defined(__AVX512BW__)
  const __m512i all = _mm512_maskz_broadcast_i32x4(
      0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return reinterpret_cast<Bytes>(_mm512_shuffle_epi8(all, reinterpret_cast<__m512i>(indices)));
#elif defined(__AVX2__)
  const __m256i all =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  __m256i parts[2];
  std::memcpy(parts, &indices, sizeof parts);
  for (__m256i& part : parts) part = _mm256_shuffle_epi8(all, part);
  return load<Bytes>(parts);
#else
  Bytes out;
  for (std::size_t i = 0; i < sizeof out; ++i) out[i] = table[indices[i]];
  return out;
#endif
}

// Half the powers of two that 16 exponents of E8M0 mean (OCP Microscaling formats, 1.0): 2^(e-128).
BERTH_INLINE Floats half_powers(const std::byte* exponents) {
  const Ints e = __builtin_convertvector(
      unsigned_bytes(reinterpret_cast<const std::uint8_t*>(exponents)), Ints);
  const Ints normal = (e - 1) << 23;
  const Ints denormal = e == 0 ? broadcast(0x00200000) : broadcast(0x00400000);
  const Ints bits = e < 2 ? denormal : normal;
  return reinterpret_cast<Floats>(e == 255 ? broadcast(0x7FC00000) : bits);
}

// 32 f16 as floats.
struct TwoFloats {
  Floats first;
  Floats second;
};
BERTH_INLINE TwoFloats halves_of(Words words) {
  std::byte bytes[sizeof words];
  std::memcpy(bytes, &words, sizeof words);
  return {halves(bytes), halves(bytes + sizeof words / 2)};
}

// 32 bytes, widened.
BERTH_INLINE Words widened(const std::byte* from) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu8_epi16(
      0xFFFFFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__AVX2__)
  __m256i out[2];
  for (int i = 0; i < 2; ++i) {
    out[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
  }
  return load<Words>(out);
#else
  Words out;
  for (int i = 0; i < 32; ++i) out[i] = std::to_integer<std::uint16_t>(from[i]);
  return out;
#endif
}

// To each of 16 sums, four products of unsigned and signed bytes are added. Exact.
BERTH_INLINE Ints dot4(Ints sums, Bytes left, Ints right) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums),
                                                    reinterpret_cast<__m512i>(left),
                                                    reinterpret_cast<__m512i>(right)));
#else
  // As 16-bit numbers, even bytes and odd ones apart: no product of theirs overflows.
  using Shorts = std::int16_t __attribute__((vector_size(64)));
  const Shorts even_left = reinterpret_cast<Shorts>(left) & static_cast<std::int16_t>(0xFF);
  const Shorts odd_left = reinterpret_cast<Shorts>(reinterpret_cast<Words>(left) >> 8);
  const Shorts even_right = (reinterpret_cast<Shorts>(right) << 8) >> 8;
  const Shorts odd_right = reinterpret_cast<Shorts>(right) >> 8;
#if defined(__AVX2__)
  const auto add = [&](const Shorts& a, const Shorts& b) {
    __m256i parts_a[2], parts_b[2], out[2];
    std::memcpy(parts_a, &a, sizeof a);
    std::memcpy(parts_b, &b, sizeof b);
    for (int i = 0; i < 2; ++i) out[i] = _mm256_madd_epi16(parts_a[i], parts_b[i]);
    Ints products;
    std::memcpy(&products, out, sizeof products);
    sums += products;
  };
  add(even_left, even_right);
  add(odd_left, odd_right);
#else
  for (int i = 0; i < kLanes; ++i) {
    sums[i] += even_left[2 * i] * even_right[2 * i] + even_left[2 * i + 1] * even_right[2 * i + 1] +
               odd_left[2 * i] * odd_right[2 * i] + odd_left[2 * i + 1] * odd_right[2 * i + 1];
  }
#endif
  return sums;
#endif
}

// The sum of 16 lanes: halves are added, then quarters, and so on.
BERTH_INLINE float sum_of(Floats lanes) {
  float sums[kLanes];
  std::memcpy(sums, &lanes, sizeof sums);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

BERTH_INLINE std::int32_t sum_of(Ints lanes) {
  std::int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

// The greatest of 16 lanes, none of which is NaN.
BERTH_INLINE float greatest_of(Floats lanes) {
  float most = lanes[0];
  for (int i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

// The lowest byte of each lane.
BERTH_INLINE void store_bytes(Ints values, std::int8_t* to) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm512_maskz_cvtepi32_epi8(0xFFFF, reinterpret_cast<__m512i>(values)));
#else
  for (int i = 0; i < kLanes; ++i) to[i] = static_cast<std::int8_t>(values[i]);
#endif
}

// sum_of() of 16 vectors at once: each output is one of their sums.
BERTH_INLINE Floats sums_of(const Floats (&lanes)[kLanes]) {
#if defined(__AVX512F__)
  Floats by_8[8], by_4[4], by_2[2];
  for (int i = 0; i < 8; ++i) {
    const Floats a = lanes[2 * i], b = lanes[2 * i + 1];
    by_8[i] =
        __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
  for (int i = 0; i < 4; ++i) {
    const Floats a = by_8[2 * i], b = by_8[2 * i + 1];
    by_4[i] =
        __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
        __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  for (int i = 0; i < 2; ++i) {
    const Floats a = by_4[2 * i], b = by_4[2 * i + 1];
    by_2[i] =
        __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
        __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
  }
  return __builtin_shufflevector(by_2[0], by_2[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24,
                                 26, 28, 30) +
         __builtin_shufflevector(by_2[0], by_2[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25,
                                 27, 29, 31);
#else
  float sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = sum_of(lanes[i]);
  return load<Floats>(sums);
#endif
}

}  // namespace
}  // namespace berth
