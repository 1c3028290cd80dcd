#include "runtime/program/grouped_heads.h"

#include <algorithm>

namespace berth {

void SplitGroupsStep::run(Pass& pass) {
  const std::size_t width = groups * (queries + 2) * head_dim;
  const float* const wide = pass.of(Buffer::kWide);
  float* const out = pass.need(Buffer::kHeads, width);
  for_rows(pass, [&](std::size_t row) {
    const float* from = wide + row * width;
    float* query = out + row * width;
    float* key = query + groups * queries * head_dim;
    float* value = key + groups * head_dim;
    for (std::size_t group = 0; group < groups; ++group) {
      query = std::copy_n(from, queries * head_dim, query);
      from += queries * head_dim;
      key = std::copy_n(from, head_dim, key);
      value = std::copy_n(from + head_dim, head_dim, value);
      from += 2 * head_dim;
    }
  });
}

}  // namespace berth
