#include "runtime/program/gated_attention.h"

#include <algorithm>

#include "runtime/kernels/elementwise.h"

namespace berth {

void SplitGateStep::run(Pass& pass) {
  const std::size_t width = heads * head_dim;
  const float* const wide = pass.of(Buffer::kWide);
  float* const out = pass.need(Buffer::kHeads, width + kv_width);
  float* const gates = pass.need(Buffer::kGate, width);
  for_rows(pass, [&](std::size_t row) {
    const float* from = wide + row * (2 * width + kv_width);
    float* const to = out + row * (width + kv_width);
    for (std::size_t head = 0; head < heads; ++head, from += 2 * head_dim) {
      std::copy_n(from, head_dim, to + head * head_dim);
      std::copy_n(from + head_dim, head_dim, gates + row * width + head * head_dim);
    }
    std::copy_n(from, kv_width, to + width);
  });
}

void GateAttendedStep::run(Pass& pass) {
  float* const attended = pass.of(Buffer::kAttended);
  const float* const gates = pass.of(Buffer::kGate);
  for_rows(pass, [&](std::size_t row) {
    for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
      attended[i] *= sigmoid(gates[i]);
    }
  });
}

}  // namespace berth
