#include "runtime/kernels/amx.h"
#include "runtime/kernels/amx_bf16_loop.h"
#include "runtime/kernels/amx_loops.h"

namespace berth {

ProductLoop products_amx(MatrixFormat format, ActivationBits bits) {
  return amx_products<AmxTiles>(format, bits);
}

void product_amx_bf16(const ProductJob& job) { amx_bf16_loop<AmxTiles>(job); }

}  // namespace berth
