// Attention of new positions over the keys and values of a cache, as they lie in it.
//
// Scores and their softmax are in f32. Keys are taken 64 at a time, counted from position 0, and
// what they give is rescaled when a larger score turns up (Milakov and Gimelshein, "Online
// normalizer calculation for softmax", arXiv 1805.02867). So memory does not grow with the length
// of a prompt, and the result of a position does not depend on the positions computed with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "berth/tensor.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/team.h"

namespace berth {

enum class CacheFormat : std::uint8_t { kF32, kF16, kBF16, kQ8_0, kF8E4M3, kF8E5M2 };

/// The format that a cache of this element type has; nothing where there is none.
std::optional<CacheFormat> cache_format(DType dtype);

/// Bytes of one vector of `head_dim` elements. Q8_0 takes multiples of 32.
std::size_t cache_vector_bytes(CacheFormat format, std::size_t head_dim);

/// Writes one vector into a cache, and reads it. F8 values beyond the format's range become its
/// largest. Rounding is to nearest, ties to even.
void store_vector(CacheFormat format, std::span<const float> values, std::byte* to);
void load_vector(CacheFormat format, const std::byte* from, std::span<float> values);
/// The same, of `count` elements.
void load_elements(CacheFormat format, const std::byte* from, std::size_t count, float* values);

/// The keys and values of one layer and one sequence. Those of a position are vectors of all KV
/// heads, one after another. Position p lies at place p modulo `capacity`.
///
/// Of a cache that keeps no more than a window, the positions of a prompt would take the place of
/// those that its first queries still see. So the positions from `fresh_first` on may lie elsewhere
/// until attention has seen them: one after another from `fresh_keys` and `fresh_values` on.
struct CacheView {
  CacheFormat format = CacheFormat::kF32;
  std::size_t kv_heads = 0;
  std::size_t key_dim = 0;
  std::size_t value_dim = 0;
  std::size_t capacity = 0;  // positions
  std::byte* keys = nullptr;
  std::byte* values = nullptr;  // null: a value is the first value_dim elements of its key
  std::size_t fresh_first = static_cast<std::size_t>(-1);
  std::byte* fresh_keys = nullptr;
  std::byte* fresh_values = nullptr;

  std::byte* key(std::size_t position, std::size_t head) const {
    const std::size_t bytes = cache_vector_bytes(format, key_dim);
    return position < fresh_first
               ? keys + (position % capacity * kv_heads + head) * bytes
               : fresh_keys + ((position - fresh_first) * kv_heads + head) * bytes;
  }
  std::byte* value(std::size_t position, std::size_t head) const {
    if (values == nullptr) return key(position, head);
    const std::size_t bytes = cache_vector_bytes(format, value_dim);
    return position < fresh_first
               ? values + (position % capacity * kv_heads + head) * bytes
               : fresh_values + ((position - fresh_first) * kv_heads + head) * bytes;
  }
};

struct AttentionSettings {
  std::size_t heads = 0;         // a multiple of the KV heads: neighbouring ones share a KV head
  float scale = 1;               // of scores
  float softcap = 0;             // scores become softcap x tanh(score / softcap); 0: none
  std::size_t window = 0;        // how many positions a query sees, its own included; 0: all
  const float* sinks = nullptr;  // a score for each head that takes part in the softmax and has
                                 // no value; null: none
};

/// Attention of the positions `first` to first + count - 1, whose keys and values are in the cache
/// already, as are all that they see. `queries` is [count, heads, key_dim], with `query_stride`
/// floats from one position to the next; `out` becomes [count, heads, value_dim]. `space` is memory
/// to compute in, which grows to what is needed: some 100 KiB a thread.
void attend(const CacheView& cache, const AttentionSettings& settings, std::size_t first,
            std::size_t count, const float* queries, std::size_t query_stride, float* out,
            std::vector<float>& space, ThreadTeam& team,
            const InstructionSet& set = instruction_set());

/// The same, by the formula in double, from the vectors as the cache holds them.
void attend_reference(const CacheView& cache, const AttentionSettings& settings, std::size_t first,
                      std::size_t count, const float* queries, float* out);

}  // namespace berth
