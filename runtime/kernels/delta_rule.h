// Linear attention by the gated delta rule, one position after another (Yang, Kautz and
// Hatamizadeh, "Gated Delta Networks", arXiv 2412.06464), and the short convolution before it.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/kernels/loops.h"
#include "runtime/kernels/team.h"

namespace berth {

/// What a layer with linear attention is made of. Neighbouring value heads share a key head.
struct LinearHeads {
  std::size_t key_heads = 0;
  std::size_t value_heads = 0;  // a multiple of the key heads
  std::size_t key_dim = 0;
  std::size_t value_dim = 0;

  std::size_t keys() const { return key_heads * key_dim; }
  std::size_t values() const { return value_heads * value_dim; }
};

/// The inputs of some positions, all in f32.
struct DeltaInputs {
  std::size_t count = 0;            // positions
  const float* rows = nullptr;      // of a position: queries, keys and values of all heads
  std::size_t stride = 0;           // from one position to the next
  const float* decay = nullptr;     // [count, value heads]: what the state is multiplied by
  const float* strength = nullptr;  // [count, value heads]: how much of a value is written
};

/// For each position and value head, with its state S [key_dim, value_dim]:
///   S = decay S;  S = S + k (strength (v - S^T k))^T;  out = S^T q
/// `state` is [value heads, key_dim, value_dim], `out` [count, value heads, value_dim]. Each
/// element is summed in the order of the keys' dimensions, and results do not depend on the
/// threads.
void delta_rule(const LinearHeads& heads, const DeltaInputs& inputs, float* state, float* out,
                ThreadTeam& team, const InstructionSet& set = instruction_set());

/// The same, by the formula in double.
void delta_rule_reference(const LinearHeads& heads, const DeltaInputs& inputs, float* state,
                          float* out);

/// out[c] = sum over k of weights[c][k] x rows[k][c], for `channels` channels and `size` rows, one
/// after another.
void convolve(const float* weights, const float* rows, std::size_t size, std::size_t channels,
              float* out);

}  // namespace berth
