// The order of bf16 activations that AMX multiplies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace berth {

/// Reorders rows of `columns` numbers each, an even number, so that pairs of neighbouring ones of
/// 16 rows stand side by side: [columns / 2, 16, 2], and with fewer rows at the end.
void put_in_pairs(std::span<const std::uint16_t> rows, std::size_t columns, std::uint16_t* to);

}  // namespace berth
