// vLLM's split into pipeline stages.
#include <algorithm>
#include <cmath>
#include <optional>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/export/exports.h"
#include "planner/export/known_models.h"
#include "planner/export/layer_homes.h"
#include "planner/export/words.h"
#include "planner/machine/sizes.h"
#include "planner/plan/kv_cache.h"

namespace berth {
namespace {

// How vLLM could hold the layers on `gpus` if it read `offloaded` bytes of weights for each GPU
// from host RAM: as many layers on each GPU, in order, as it then has space for. Nothing if some
// are left. Of a stage only layers are offloaded, no KV cache, embedding or head.
std::optional<std::vector<std::uint64_t>> stages_with_offload(
    const LayerHomes& homes, const std::vector<std::uint32_t>& gpus, std::uint64_t offloaded) {
  std::vector<std::uint64_t> counts(gpus.size(), 0);
  std::size_t next = 0;
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    const DeviceLedger& row = homes.plan.devices[gpus[g]];
    std::uint64_t used = row.reserved + row.workspace;
    if (g == 0) used += elsewhere(homes.before, kNone) + elsewhere(homes.towers, kNone);
    if (g + 1 == gpus.size()) {
      used += elsewhere(homes.after, kNone) + (homes.tied ? homes.embedding_bytes : 0);
    }
    std::uint64_t weights = 0;
    for (; next < homes.layers.size(); ++next, ++counts[g]) {
      weights += homes.layers[next].weights();
      used += homes.layers[next].kv_bytes;
      if (used + weights - std::min(weights, offloaded) > row.capacity) break;
    }
  }
  const bool all = next == homes.layers.size();
  if (!all || std::find(counts.begin(), counts.end(), 0) != counts.end()) return std::nullopt;
  return counts;
}

// What vLLM has of its own for weights that the GPUs do not hold: it copies them from host RAM in
// each pass. "" if the GPUs or the host cannot hold that either.
// Source: vllm 0.30, vllm/config/offload.py.
std::string own_offload(const LayerHomes& homes) {
  constexpr std::uint64_t kGiB = 1ull << 30;
  const std::vector<std::uint32_t> gpus = homes.gpus_in_order();
  std::uint64_t host = 0;
  std::uint64_t weights = 0;
  for (const DeviceLedger& row : homes.plan.devices) {
    if (row.kind == DeviceKind::kCpu) host += row.weights + row.free;
  }
  for (const LayerHome& layer : homes.layers) weights += layer.weights();
  if (gpus.empty()) return "";
  for (std::uint64_t gib = 1; gib * gpus.size() * kGiB <= std::min(host, weights + kGiB); ++gib) {
    const auto counts = stages_with_offload(homes, gpus, gib * kGiB);
    if (!counts) continue;
    return " (vLLM's own --cpu-offload-gb " + std::to_string(gib) +
           " with VLLM_PP_LAYER_PARTITION=" + numbers(*counts) +
           " would copy them from host RAM in each pass)";
  }
  return "";
}

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
                " layers have weights off the GPUs, where vLLM computes nothing" +
                own_offload(homes));
  }
}

// Moves what is outside of the layers to the stages where vLLM has it: the embedding, towers and
// what else runs before the layers to the first one, norm and head to the last one. A tied weight
// is on both.
void place_ends(LayerHomes& homes, std::uint32_t first, std::uint32_t last,
                std::vector<std::string>& notes) {
  const bool copied = homes.tied && first != last;
  const std::uint64_t copy =
      copied && homes.head != last && homes.embedding != last ? homes.embedding_bytes : 0;
  const std::uint64_t to_first = elsewhere(homes.towers, first) +
                                 (homes.embedding == first ? 0 : elsewhere(homes.before, first));
  const std::uint64_t to_last = homes.head == last ? 0 : elsewhere(homes.after, last);
  for (std::uint32_t d = 0; d < homes.before.size(); ++d) {
    if (d != first) homes.give_back(d, homes.before[d] + homes.towers[d]);
    if (d != last) homes.give_back(d, homes.after[d]);
  }
  const auto more_on = [&](std::uint64_t bytes, std::uint32_t device) {
    return format_size(bytes) + " more on " + homes.label(device);
  };
  const std::string what =
      elsewhere(homes.towers, first) > 0 ? "the embedding and the towers" : "the embedding";
  if (to_first > 0) {
    const std::string words = "vLLM keeps " + what + " with the first layers: ";
    homes.require_space(first, to_first, words.substr(0, words.size() - 1));
    notes.push_back(words + more_on(to_first, first));
  }
  if (to_last + copy == 0) return;
  const std::string words = "vLLM keeps the head with the last layers";
  homes.require_space(last, to_last + copy, words + ":");
  notes.push_back(words + (copy > 0 ? ", a second copy of the tied weight: " : ": ") +
                  more_on(to_last + copy, last));
}

// "" where vLLM's default is enough, else "--gpu-memory-utilization 0.97": the share of a GPU that
// vLLM may fill with weights, activations and KV cache. A CUDA context is not part of it, and the
// share must be free when vLLM starts. One share counts for all GPUs. Throws NoSpace if there is no
// share that is large enough for one GPU and free on all.
// Source: vllm 0.30, vllm/config/cache.py (0.92, before that 0.9) and v1/worker/gpu_worker.py.
std::string utilization(const LayerHomes& homes, const Machine& machine,
                        const std::vector<std::uint32_t>& gpus) {
  constexpr double kDefault = 0.9;
  constexpr double kStep = 1000;
  double needed = 0;
  double free = 1;
  std::string fullest;
  for (const std::uint32_t gpu : gpus) {
    const DeviceLedger& row = homes.plan.devices[gpu];
    const Device* device = machine.find(row.name);
    const std::uint64_t total = std::max(row.capacity, device == nullptr ? 0 : device->total);
    if (total == 0) continue;
    const auto share = [&](std::uint64_t bytes) {
      return static_cast<double>(bytes) / static_cast<double>(total);
    };
    if (share(homes.held(gpu)) > needed) fullest = homes.label(gpu);
    needed = std::max(needed, share(homes.held(gpu)));
    free = std::min(free, share(row.capacity - std::min(row.capacity, row.reserved)));
  }
  if (needed <= kDefault) return "";
  const double most = std::floor(free * kStep) / kStep;
  if (needed > most && homes.plan.fits()) {
    throw NoSpace("vLLM: " + fullest + " needs more than the share of every GPU that is free");
  }
  std::string text = std::to_string(most);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return " --gpu-memory-utilization " + text;
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

Export export_vllm(const ModelTree& tree, const Machine& machine, const Plan& plan) {
  LayerHomes homes(tree, plan, "vLLM", /*fold_disk=*/false);
  Export out;
  const KnownModel known = vllm_knows(tree);
  if (!known.error.empty()) throw Error("vLLM: " + known.error);
  if (!known.note.empty()) out.notes.push_back("vLLM: " + known.note);
  require_whole_on_gpus(homes);
  const std::string words = kv_cache_dtype(plan);
  const LayerHomes::Gathered gathered = homes.gather();
  if (gathered == LayerHomes::Gathered::kNoSpace) {
    throw NoSpace("vLLM gives each GPU one run of layers, in order: " + homes.no_space);
  }
  if (gathered == LayerHomes::Gathered::kMoved) {
    out.notes.push_back(
        "vLLM gives each GPU one run of layers, in order: layers trade places, as many of them on "
        "each device as planned");
  }
  const std::vector<std::uint32_t> gpus = homes.gpus_in_order();
  if (gpus.size() > 1 && known.one_gpu) {
    throw Error("vLLM: it divides no " + tree.model_type + " model over GPUs by layers, and the " +
                "plan uses " + std::to_string(gpus.size()) + " GPUs");
  }
  place_ends(homes, gpus.front(), gpus.back(), out.notes);
  if (!is_usual_order(plan, gpus)) {
    std::vector<std::string> names;
    for (const std::uint32_t gpu : gpus) names.push_back(plan.devices[gpu].name);
    out.environment = "CUDA_VISIBLE_DEVICES=" + join(names, ",") + " ";
  }
  out.environment += "VLLM_PP_LAYER_PARTITION=" + numbers(layers_on(homes, gpus));
  out.arguments = "--pipeline-parallel-size " + std::to_string(gpus.size()) + " --max-model-len " +
                  std::to_string(plan.workload.context) + utilization(homes, machine, gpus);
  if (words != "auto") out.arguments += " --kv-cache-dtype " + words;
  return out;
}

}  // namespace berth
