// Whether products may use AMX on this processor. Only this room includes it.
#pragma once

#include "runtime/kernels/jobs.h"

namespace berth {

enum class Amx : std::uint8_t {
  kNone,       // the processor lacks it, or the kernel does not let this process use it
  kDisagrees,  // a product differs from the one that `others` compute
  kReady,
};

/// Asks once, at the first call, and computes a small product both ways.
Amx amx_of_this_processor(ProductLoops others, QuantizeLoop quantize);

/// Null for formats that AMX is not used for. Not for BF16.
ProductLoop products_amx(MatrixFormat format, ActivationBits bits);

/// Whether AMX may multiply bf16 on this processor, and a small product is close to the exact one
/// and the same alone and in a batch. Asks once.
bool has_amx_bf16();

/// Of BF16, with activations that were rounded to it; reads ProductJob::pairs.
void product_amx_bf16(const ProductJob& job);

}  // namespace berth
