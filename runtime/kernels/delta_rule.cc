#include "runtime/kernels/delta_rule.h"

#include <algorithm>

namespace berth {

void delta_rule(const LinearHeads& heads, const DeltaInputs& inputs, float* state, float* out,
                ThreadTeam& team, const InstructionSet& set) {
  // A piece of work is some columns of the state of one head: no column depends on another.
  const std::size_t parts = (heads.value_dim + kDeltaColumns - 1) / kDeltaColumns;
  const std::size_t jobs = heads.value_heads * parts;
  team.run(jobs, [&](std::size_t job, std::size_t) {
    const std::size_t head = job / parts;
    const std::size_t column = job % parts * kDeltaColumns;
    const std::size_t key_head = head / (heads.value_heads / heads.key_heads);
    const float* const queries = inputs.rows + key_head * heads.key_dim;
    const std::size_t value = head * heads.value_dim + column;
    set.delta_rule(
        {queries, queries + heads.keys(), inputs.rows + 2 * heads.keys() + value, inputs.stride,
         inputs.decay + head, inputs.strength + head, heads.value_heads, inputs.count,
         heads.key_dim, heads.value_dim, std::min(kDeltaColumns, heads.value_dim - column),
         state + head * heads.key_dim * heads.value_dim + column, out + value, heads.values()});
  });
}

void delta_rule_reference(const LinearHeads& heads, const DeltaInputs& inputs, float* state,
                          float* out) {
  for (std::size_t head = 0; head < heads.value_heads; ++head) {
    const std::size_t key_head = head / (heads.value_heads / heads.key_heads);
    float* const own = state + head * heads.key_dim * heads.value_dim;
    std::vector<double> s(own, own + heads.key_dim * heads.value_dim);
    for (std::size_t p = 0; p < inputs.count; ++p) {
      const float* const query = inputs.rows + p * inputs.stride + key_head * heads.key_dim;
      const float* const key = query + heads.keys();
      const float* const value =
          inputs.rows + p * inputs.stride + 2 * heads.keys() + head * heads.value_dim;
      const double decay = inputs.decay[p * heads.value_heads + head];
      const double strength = inputs.strength[p * heads.value_heads + head];
      for (std::size_t column = 0; column < heads.value_dim; ++column) {
        double held = 0, read = 0;
        for (std::size_t i = 0; i < heads.key_dim; ++i) {
          s[i * heads.value_dim + column] *= decay;
          held += s[i * heads.value_dim + column] * key[i];
        }
        const double change = strength * (value[column] - held);
        for (std::size_t i = 0; i < heads.key_dim; ++i) {
          s[i * heads.value_dim + column] += key[i] * change;
          read += s[i * heads.value_dim + column] * query[i];
        }
        out[(p * heads.value_heads + head) * heads.value_dim + column] = static_cast<float>(read);
      }
    }
    std::transform(s.begin(), s.end(), own, [](double x) { return static_cast<float>(x); });
  }
}

void convolve(const float* weights, const float* rows, std::size_t size, std::size_t channels,
              float* out) {
  for (std::size_t c = 0; c < channels; ++c) {
    float sum = 0;
    for (std::size_t k = 0; k < size; ++k) sum += weights[c * size + k] * rows[k * channels + c];
    out[c] = sum;
  }
}

}  // namespace berth
