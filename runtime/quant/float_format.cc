#include "runtime/quant/float_format.h"

#include <string>

#include "berth/error.h"

namespace berth {

FloatFormat float_format(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return FloatFormat::kBF16;
    case DType::kF16:
      return FloatFormat::kF16;
    case DType::kF32:
      return FloatFormat::kF32;
    case DType::kF64:
      return FloatFormat::kF64;
    default:
      throw Error("elements of type " + std::string(dtype_name(dtype)) + " cannot be converted");
  }
}

}  // namespace berth
