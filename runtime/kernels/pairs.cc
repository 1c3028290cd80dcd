#include "runtime/kernels/pairs.h"

#include <algorithm>
#include <cstring>

#include "runtime/kernels/jobs.h"

namespace berth {

void put_in_pairs(std::span<const std::uint16_t> rows, std::size_t columns, std::uint16_t* to) {
  const std::size_t count = rows.size() / columns;
  for (std::size_t first = 0; first < count; first += kSideBySide) {
    const std::size_t width = std::min(kSideBySide, count - first);
    for (std::size_t p = 0; p < width; ++p) {
      const std::uint16_t* const from = rows.data() + (first + p) * columns;
      std::uint16_t* const own = to + first * columns + 2 * p;
      for (std::size_t pair = 0; pair < columns / 2; ++pair) {
        std::memcpy(own + pair * 2 * width, from + 2 * pair, 2 * sizeof *from);
      }
    }
  }
}

}  // namespace berth
