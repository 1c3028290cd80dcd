// vLLM's split into pipeline stages.
#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/export/exports.h"
#include "planner/export/layer_homes.h"
#include "planner/export/words.h"
#include "planner/machine/sizes.h"
#include "planner/plan/kv_cache.h"

namespace berth {
namespace {

// Throws Error unless all layers are on GPUs, each whole on one: vLLM can do nothing else.
void require_whole_on_gpus(const LayerHomes& homes) {
  std::uint64_t off = 0;
  for (std::size_t i = 0; i < homes.layers.size(); ++i) {
    const LayerHome& layer = homes.layers[i];
    bool on_gpus = true;
    for (const std::uint32_t device : layer.device)
      on_gpus &= device == kNone || homes.is_gpu(device);
    off += on_gpus ? 0 : 1;
    for (const std::uint32_t device : layer.device) {
      if (!on_gpus || device == kNone || device == layer.home()) continue;
      throw Error("vLLM: layer " + std::to_string(i) + " is cut between " +
                  homes.label(layer.home()) + " and " + homes.label(device) +
                  "; vLLM places whole layers");
    }
  }
  if (off > 0) {
    throw Error("vLLM: " + std::to_string(off) + " of " + std::to_string(homes.layers.size()) +
                " layers have weights off the GPUs, where vLLM computes nothing; plan with "
                "--never-offload, or use --llama-cpp");
  }
}

// What vLLM calls the dtype of the KV cache. Throws Error for one that it does not have.
std::string kv_cache_dtype(const Plan& plan) {
  const DType dtype = plan.workload.kv_dtype.value_or(DType::kF16);
  const KvDType* row = find_kv_dtype(dtype);
  if (row != nullptr && !row->vllm.empty()) return std::string(row->vllm);
  throw Error("vLLM has no KV cache of " + kv_dtype_name(dtype) +
              ": plan with --kv-dtype fp8, which it calls the same, or one of 16 bits");
}

}  // namespace

Export export_vllm(const ModelTree& tree, const Plan& plan) {
  LayerHomes homes(tree, plan, "vLLM", /*fold_disk=*/false);
  require_whole_on_gpus(homes);
  const std::string words = kv_cache_dtype(plan);
  Export out;
  const LayerHomes::Gathered gathered = homes.gather();
  if (gathered == LayerHomes::Gathered::kNoSpace) {
    throw Error("vLLM gives each GPU one run of layers, in order: " + homes.no_space);
  }
  if (gathered == LayerHomes::Gathered::kMoved) {
    out.notes.push_back(
        "vLLM gives each GPU one run of layers, in order: layers trade places, as many of them on "
        "each device as planned");
  }
  const std::vector<std::uint32_t> gpus = homes.gpus_in_order();
  const std::uint32_t first = gpus.front();
  const std::uint32_t last = gpus.back();
  if (homes.embedding != first) {
    homes.require_space(first, homes.embedding_bytes,
                        "vLLM keeps the embedding with the first layers:");
    out.notes.push_back("vLLM keeps the embedding with the first layers: " +
                        format_size(homes.embedding_bytes) + " more on " + homes.label(first));
  }
  const bool copied = homes.tied && first != last;
  const std::uint64_t head_bytes = homes.head_bytes + (copied ? homes.embedding_bytes : 0);
  if (homes.head != last || copied) {
    homes.require_space(last, head_bytes, "vLLM keeps the head with the last layers:");
    out.notes.push_back(std::string("vLLM keeps the head with the last layers") +
                        (copied ? ", a second copy of the tied weight: " : ": ") +
                        format_size(head_bytes) + " more on " + homes.label(last));
  }
  if (!is_usual_order(plan, gpus)) {
    std::vector<std::string> names;
    for (const std::uint32_t gpu : gpus) names.push_back(plan.devices[gpu].name);
    out.environment = "CUDA_VISIBLE_DEVICES=" + join(names, ",") + " ";
  }
  out.environment += "VLLM_PP_LAYER_PARTITION=" + numbers(layers_on(homes, gpus));
  out.arguments = "--pipeline-parallel-size " + std::to_string(gpus.size()) + " --max-model-len " +
                  std::to_string(plan.workload.context);
  if (words != "auto") out.arguments += " --kv-cache-dtype " + words;
  return out;
}

}  // namespace berth
