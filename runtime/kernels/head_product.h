// Products of the heads of attention, each with rows of a matrix that are its own: what latent
// attention makes of a query before it sees the cache, and of what it read from there.
#pragma once

#include <cstddef>

#include "runtime/kernels/loops.h"
#include "runtime/kernels/matrix.h"
#include "runtime/kernels/team.h"

namespace berth {

/// Where the vectors of heads are: that of head h at position p is at data + p x position + h x
/// head.
template <class Float>
struct HeadVectors {
  Float* data = nullptr;
  std::size_t position = 0;
  std::size_t head = 0;

  Float* of(std::size_t p, std::size_t h) const { return data + p * position + h * head; }
};

/// Of a matrix, the rows of each head: `rows` of them from row h x `head_rows` + `first_row` on.
struct HeadRows {
  Matrix weights;
  std::size_t heads = 0;
  std::size_t head_rows = 0;
  std::size_t first_row = 0;
  std::size_t rows = 0;
};

/// out = x times the head's rows, transposed: x has as many elements as the matrix has columns, and
/// out as many as the head has rows. Activations are float32 beside every format. The result of a
/// position depends on nothing but itself.
void multiply_heads(const HeadRows& own, std::size_t positions, const HeadVectors<const float>& x,
                    const HeadVectors<float>& out, ThreadTeam& team,
                    const InstructionSet& set = instruction_set());

/// out = x times the head's rows: x has as many elements as the head has rows, and out as many as
/// the matrix has columns.
void multiply_heads_transposed(const HeadRows& own, std::size_t positions,
                               const HeadVectors<const float>& x, const HeadVectors<float>& out,
                               ThreadTeam& team, const InstructionSet& set = instruction_set());

}  // namespace berth
