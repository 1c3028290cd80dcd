// Exports a plan as arguments of other tools: llama.cpp's placement flags and vLLM's pipeline
// split.
//
// Neither tool can express every plan. If a tool cannot express the order of the layers, layers
// trade places with others, provided that what every GPU then holds still fits; a note says what
// differs from the plan. If what the tool would do does not fit, or is not what was planned, an
// Error gives the reason. All functions are pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct Export {
  std::string environment;         // variables to set, "A=1 B=2"; may be empty
  std::string arguments;           // for a shell; patterns stand in double quotes
  std::vector<std::string> notes;  // what differs from the plan, one line each
};

// llama.cpp: `-ngl N -dev LIST -ts a,b -ot "regex=CPU,..." -c CONTEXT`, for a GGUF of the same
// size. This is what llama.cpp does with them (llama_model::load_tensors): to it the model is
// `layers` + 1 layers, the last of which is the output. The last N of them are offloaded and split
// over the devices in proportion to -ts; whole numbers that add up to N are met exactly. The input
// embedding stays on the CPU. -ot moves the tensors whose GGUF names match a regular expression;
// the first match counts. The KV cache of a layer stays on the layer's device all the same; it is
// larger than planned where layers have a window. The disk counts as the CPU, because llama.cpp
// maps its file. Throws NoSpace (layer_homes.h) if that does not fit, and Error if the plan cannot
// be expressed.
Export export_llama_cpp(const ModelTree& tree, const Machine& machine, const Plan& plan);

// vLLM: VLLM_PP_LAYER_PARTITION=a,b with --pipeline-parallel-size (get_pp_indices): each GPU, in
// the order of CUDA_VISIBLE_DEVICES, takes so many neighbouring layers. The embedding and towers
// are on the first GPU, norm and head are on the last one, tied weights on both.
// --gpu-memory-utilization is given where vLLM's default is too little. Throws NoSpace if that does
// not fit, and Error if the plan cannot be expressed, above all if weights are off the GPUs.
Export export_vllm(const ModelTree& tree, const Machine& machine, const Plan& plan);

// The tools, and how `plan` asks for them. To add one: a value here, a function in a file of its
// own that is declared above, a row below, and the option's row in cli/options/option_table.cc.
enum class ExportTool : std::uint8_t { kLlamaCpp, kVllm };

struct ExportRow {
  ExportTool tool;
  std::string_view flag;
  // The command that takes the model's folder and then the arguments. It is printed behind the
  // variables of Export::environment. Empty: the arguments alone are printed, so there can be no
  // variables.
  std::string_view command;
  Export (*make)(const ModelTree& tree, const Machine& machine, const Plan& plan);
};

// By ExportTool.
inline constexpr ExportRow kExports[] = {
    {ExportTool::kLlamaCpp, "--llama-cpp", "", export_llama_cpp},
    {ExportTool::kVllm, "--vllm", "vllm serve", export_vllm},
};

}  // namespace berth
