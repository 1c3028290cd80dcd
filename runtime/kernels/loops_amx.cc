#include "runtime/kernels/amx.h"
#include "runtime/kernels/amx_loops.h"

namespace berth {

ProductLoop products_amx(MatrixFormat format, ActivationBits bits) {
  return amx_products<AmxTiles>(format, bits);
}

}  // namespace berth
