// What computes a run, by name. All of it is in this header, because the command line needs the
// names and does not link the kernels.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace berth {

enum class Kernels : std::uint8_t {
  kOwn,        // this room's, on host memory, where they can compute the model as it was loaded
  kReference,  // libtorch's operations, on any device that it has
};

// The integers that activations are beside weights in formats with blocks (activations.h): one, two
// or three planes of bytes.
enum class ActivationBits : std::uint8_t { k8, k16, k24 };

inline std::vector<std::string_view> activations_names() { return {"int24", "int16", "int8"}; }

inline std::optional<ActivationBits> find_activations(std::string_view name) {
  if (name == "int24") return ActivationBits::k24;
  if (name == "int16") return ActivationBits::k16;
  if (name == "int8") return ActivationBits::k8;
  return std::nullopt;
}

inline std::vector<std::string_view> kernels_names() { return {"own", "reference"}; }

inline std::optional<Kernels> find_kernels(std::string_view name) {
  if (name == "own") return Kernels::kOwn;
  if (name == "reference") return Kernels::kReference;
  return std::nullopt;
}

}  // namespace berth
