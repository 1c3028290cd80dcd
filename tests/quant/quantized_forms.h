// Small quantised checkpoints, one in each form that Berth knows, with weights that make sense.
#pragma once

#include <cstddef>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "tests/checkpoint/fixtures.h"

namespace berth::test {

struct Form {
  std::string name;
  std::string config;
  std::vector<FakeTensor> tensors;
};
inline void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

// One of each form. The third is GPTQ in 4 bits, with inputs in an order of their own.
std::vector<Form> quantized_forms();

// Those that kernels compute with as they are quantised.
std::vector<Form> grouped_forms();

// Any bytes for the packed values, or only such as are numbers of ordinary size.
enum class Numbers : bool { kAny, kOrdinary };

// Fills every tensor of the checkpoint in `folder` with contents that make sense for its role, and
// returns these by index. Inputs of GPTQ are in any order, unless its config says desc_act: false.
std::vector<std::vector<std::byte>> fill(const std::filesystem::path& folder,
                                         Numbers numbers = Numbers::kAny);

}  // namespace berth::test
