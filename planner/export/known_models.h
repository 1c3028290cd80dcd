// Families that a tool is known not to run, or not as others. A family that stands in no table is
// left to the tool: nothing is claimed of it.
#pragma once

#include <string>

#include "berth/model.h"

namespace berth {

struct KnownModel {
  std::string error;     // why the tool cannot run the family; "" where it can, or nothing is known
  std::string note;      // what else is needed for it
  bool one_gpu = false;  // the tool cannot divide it over GPUs
};

// Sources: the registry of models of vLLM 0.30 (vllm/model_executor/models/registry.py) and its
// docs/models/supported_models.md; the architectures that llama.cpp's converter lists in
// conversion/__init__.py (2026-08).
KnownModel vllm_knows(const ModelTree& tree);
KnownModel llama_cpp_knows(const ModelTree& tree);

}  // namespace berth
