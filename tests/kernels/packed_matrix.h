// Matrices in block formats and activations for them, for tests.
#pragma once

#include <random>
#include <vector>

#include "cuda/block_format.h"
#include "cuda/cast.h"
#include "cuda/packed_product.h"
#include "tests/program/packed_model.h"

namespace berth::testing {

// Any bits, with scales and minima of the size that weights have. The memory is aligned as that of
// a device is.
struct MadeMatrix {
  MadeMatrix(const PackedFormat& format, std::size_t rows, std::size_t columns,
             std::mt19937& random)
      : matrix{format.id, rows, columns, nullptr} {
    const BlockSize size = block_size(format.id);
    bytes = rows * columns / size.elements * size.bytes;
    memory.resize(bytes / 16 + 1);
    auto* data = reinterpret_cast<std::byte*>(memory.data());
    for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(random());
    for (std::size_t at = 0; at < bytes; at += size.bytes) {
      const auto near = [&](float value) {
        return value * (1 + 0.2F * std::normal_distribution<float>()(random));
      };
      put_half(data + at + format.scale_at, near(format.scale));
      if (format.minimum != 0) put_half(data + at + 2, near(format.minimum));
    }
    matrix.data = data;
  }

  std::vector<float> floats() const {
    std::vector<float> values(matrix.rows * matrix.columns);
    dequantize_reference(matrix.data, matrix.format, values.data(), FloatFormat::kF32,
                         values.size() / block_size(matrix.format).elements);
    return values;
  }

  struct alignas(16) Line {
    std::byte bytes[16];
  };
  std::vector<Line> memory;
  std::size_t bytes = 0;
  PackedMatrix matrix;

 private:
  static void put_half(std::byte* at, float value) {
    cast_reference(&value, FloatFormat::kF32, at, FloatFormat::kF16, 1);
  }
};

// Activations in a float format, and the values that they have in it.
struct MadeActivations {
  MadeActivations(std::size_t count, FloatFormat as, std::mt19937& random)
      : format(as), values(count), bytes(count * float_bytes(as)) {
    for (float& value : values) value = std::normal_distribution<float>()(random);
    store();
  }
  // Writes `values` in the format, and rounds them to it.
  void store() {
    cast_reference(values.data(), FloatFormat::kF32, bytes.data(), format, values.size());
    cast_reference(bytes.data(), format, values.data(), FloatFormat::kF32, values.size());
  }

  FloatFormat format;
  std::vector<float> values;
  std::vector<std::byte> bytes;
};

}  // namespace berth::testing
