// A plan in the words of other tools: llama.cpp's placement flags and vLLM's pipeline split.
//
// Neither tool can say every plan. Where an order of layers cannot be said, layers trade places
// with others on condition that what every GPU holds still fits; what then differs is a note. What
// would not fit or not be true is an Error that gives the reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct Export {
  std::string environment;         // variables to set, "A=1 B=2"; perhaps empty
  std::string arguments;           // words for a shell, patterns in double quotes
  std::vector<std::string> notes;  // what differs from the plan, one line each
};

// llama.cpp: `-ngl N -dev LIST -ts a,b -ot "regex=CPU" -c CONTEXT`, for a GGUF of like dtypes.
// Its semantics (llama_model::load_tensors): the model is `layers` + 1 slots, the last of them the
// output; the last N slots are offloaded and split over the devices in proportion to -ts, so whole
// numbers that add up to N are met exactly. The input embedding stays on the CPU. -ot puts the
// tensors whose GGUF names match a regular expression elsewhere, the first match first; a layer's
// KV cache stays with its slot. The disk counts as the CPU: llama.cpp maps its file.
Export export_llama_cpp(const ModelTree& tree, const Plan& plan);

// vLLM: VLLM_PP_LAYER_PARTITION=a,b with --pipeline-parallel-size (get_pp_indices): GPUs in order
// of CUDA_VISIBLE_DEVICES, each with so many neighbouring layers, the embedding on the first, norm
// and head on the last, tied weights on both. There are only GPUs.
Export export_vllm(const ModelTree& tree, const Plan& plan);

// A regular expression for exactly these numbers in decimal, ascending: {3, 4, .., 60} is
// "[3-9]|[1-5][0-9]|60".
std::string number_pattern(const std::vector<std::uint64_t>& numbers);

}  // namespace berth
