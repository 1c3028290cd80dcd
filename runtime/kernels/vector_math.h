// Functions of whole vectors. As vector_ops.h, this is compiled once for each instruction set.
#pragma once

#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// e to the x; below -87.3 it is 0, and above 88.3 it is what it is there. Errs by two units of the
// last place at most. e^x = 2^n x e^r with n = round(x / ln 2), and e^r by the polynomial of
// Cephes (expf.c).
BERTH_INLINE Floats exp_of(Floats x) {
  constexpr float kRound = 12582912.0F;  // 1.5 x 2^23: what is added to it is rounded to a whole
  const Floats least = broadcast(-87.3F);
  const Floats most = broadcast(88.3F);
  const Floats above = x > least ? x : least;
  const Floats inside = above < most ? above : most;
  const Floats shifted = fma(inside, broadcast(1.44269504088896341F), broadcast(kRound));
  const Floats n = shifted - kRound;
  Floats r = fma(n, broadcast(-0.693359375F), inside);
  r = fma(n, broadcast(2.12194440e-4F), r);
  Floats y = broadcast(1.9875691500e-4F);
  y = fma(y, r, broadcast(1.3981999507e-3F));
  y = fma(y, r, broadcast(8.3334519073e-3F));
  y = fma(y, r, broadcast(4.1665795894e-2F));
  y = fma(y, r, broadcast(1.6666665459e-1F));
  y = fma(y, r, broadcast(5.0000001201e-1F));
  y = fma(y, r * r, r + 1.0F);
  const Ints exponent = (reinterpret_cast<Ints>(shifted) << 23) + (127 << 23);
  const Floats power = reinterpret_cast<Floats>(exponent);
  const Floats result = y * power;
  const Floats nothing{};
  // A NaN compares false with everything: x == x tells it.
  return x == x ? (x < least ? nothing : result) : x;
}

}  // namespace
}  // namespace berth
