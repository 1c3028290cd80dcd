// The loop of the gated delta rule, compiled once for each instruction set: see product_loops.h.
#include "runtime/kernels/loops.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// A row of a state, or a part of it: `count` columns in kVectors registers, filled up with zeros.
template <int kVectors>
struct Columns {
  Floats part[kVectors];
};
template <int kVectors>
BERTH_INLINE Columns<kVectors> load_columns(const float* from, std::size_t count) {
  Columns<kVectors> out{};
  std::memcpy(&out, from, count * sizeof(float));
  return out;
}
template <int kVectors>
BERTH_INLINE void store_columns(const Columns<kVectors>& columns, std::size_t count, float* to) {
  std::memcpy(to, &columns, count * sizeof(float));
}

template <int kVectors>
void delta_columns(const DeltaJob& job, std::size_t count) {
  for (std::size_t p = 0; p < job.count; ++p) {
    const float* const query = job.queries + p * job.stride;
    const float* const key = job.keys + p * job.stride;
    const Floats decay = broadcast(job.decay[p * job.heads]);
    const Floats strength = broadcast(job.strength[p * job.heads]);
    Columns<kVectors> change = load_columns<kVectors>(job.values + p * job.stride, count);
    Columns<kVectors> held{}, read{};
    for (std::size_t i = 0; i < job.key_dim; ++i) {
      float* const row = job.state + i * job.state_stride;
      Columns<kVectors> s = load_columns<kVectors>(row, count);
      for (int v = 0; v < kVectors; ++v) {
        s.part[v] *= decay;
        held.part[v] = fma(s.part[v], broadcast(key[i]), held.part[v]);
      }
      store_columns(s, count, row);
    }
    for (int v = 0; v < kVectors; ++v) {
      change.part[v] = (change.part[v] - held.part[v]) * strength;
    }
    for (std::size_t i = 0; i < job.key_dim; ++i) {
      float* const row = job.state + i * job.state_stride;
      Columns<kVectors> s = load_columns<kVectors>(row, count);
      for (int v = 0; v < kVectors; ++v) {
        s.part[v] = fma(broadcast(key[i]), change.part[v], s.part[v]);
        read.part[v] = fma(s.part[v], broadcast(query[i]), read.part[v]);
      }
      store_columns(s, count, row);
    }
    store_columns(read, count, job.out + p * job.out_stride);
  }
}

}  // namespace

void BERTH_LOOPS(delta_rule)(const DeltaJob& job) {
  constexpr int kMost = kDeltaColumns / kLanes;
  if (job.columns == kDeltaColumns) {
    delta_columns<kMost>(job, kDeltaColumns);  // a constant: copies become loads and stores
  } else {
    delta_columns<kMost>(job, job.columns);
  }
}

}  // namespace berth
