#include "runtime/calibrate/read_loop.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace berth {
namespace {

constexpr std::size_t kStreams = 4;

// The bytes are joined by "or", which takes no time beside the loads.
std::uint64_t read_words(const std::byte* data, std::size_t bytes) {
  const std::size_t each = bytes / kStreams;
  std::uint64_t sums[kStreams * 2] = {};
  for (std::size_t at = 0; at < each; at += 16) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      std::uint64_t words[2];
      std::memcpy(words, data + s * each + at, sizeof words);
      sums[2 * s] |= words[0];
      sums[2 * s + 1] |= words[1];
    }
  }
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all |= sum;
  return all;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::byte* data, std::size_t bytes) {
  const std::size_t each = bytes / kStreams;
  __m256i sums[kStreams] = {};
  for (std::size_t at = 0; at < each; at += 128) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      const auto* from = reinterpret_cast<const __m256i*>(data + s * each + at);
      const __m256i low = _mm256_or_si256(_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1));
      const __m256i high =
          _mm256_or_si256(_mm256_loadu_si256(from + 2), _mm256_loadu_si256(from + 3));
      sums[s] = _mm256_or_si256(sums[s], _mm256_or_si256(low, high));
    }
  }
  std::uint64_t words[4 * kStreams];
  std::memcpy(words, sums, sizeof words);
  std::uint64_t all = 0;
  for (const std::uint64_t word : words) all |= word;
  return all;
}

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const std::byte* data,
                                                             std::size_t bytes) {
  const std::size_t each = bytes / kStreams;
  __m512i sums[kStreams] = {};
  for (std::size_t at = 0; at < each; at += 256) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::byte* from = data + s * each + at;
      const __m512i low = _mm512_or_si512(_mm512_loadu_si512(from), _mm512_loadu_si512(from + 64));
      const __m512i high =
          _mm512_or_si512(_mm512_loadu_si512(from + 128), _mm512_loadu_si512(from + 192));
      sums[s] = _mm512_or_si512(sums[s], _mm512_or_si512(low, high));
    }
  }
  std::uint64_t words[8 * kStreams];
  std::memcpy(words, sums, sizeof words);
  std::uint64_t all = 0;
  for (const std::uint64_t word : words) all |= word;
  return all;
}
#endif

}  // namespace

std::uint64_t read_all(const std::byte* data, std::size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_avx512(data, bytes);
  if (__builtin_cpu_supports("avx2")) return read_avx2(data, bytes);
#endif
  return read_words(data, bytes);
}

}  // namespace berth
