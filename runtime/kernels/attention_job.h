// A piece of the work of attend(): some neighbouring positions, and some neighbouring heads that
// share a KV head. Only this room includes it.
#pragma once

#include <cstddef>

namespace berth {

struct CacheView;
struct AttentionSettings;

inline constexpr std::size_t kKeysAtOnce = 64;

/// Vectors are filled up with zeros to whole registers: 16 floats.
constexpr std::size_t padded_to_lanes(std::size_t size) { return (size + 15) / 16 * 16; }

struct AttentionJob {
  const CacheView& cache;
  const AttentionSettings& settings;
  std::size_t first;  // position of queries[0]
  std::size_t begin;  // the first query of this piece
  std::size_t count;  // its queries
  std::size_t kv_head;
  std::size_t head;   // the first head of this piece
  std::size_t heads;  // its heads
  const float* queries;
  std::size_t query_stride;
  float* out;
};

// Memory that a thread uses again for one piece after another. "Rows" are the queries of a piece
// times its heads. Where values are the beginnings of keys, `values` is `keys`.
struct AttentionSpace {
  float* keys;     // [kKeysAtOnce, key_dim], padded
  float* values;   // [kKeysAtOnce, value_dim], padded, or what `keys` has
  float* queries;  // [rows, key_dim], padded
  float* sums;     // [rows, value_dim], padded
  float* most;     // [rows]: the largest score so far
  float* total;    // [rows]: of the weights so far
};

using AttentionLoop = void (*)(const AttentionJob& job, const AttentionSpace& space);

}  // namespace berth
