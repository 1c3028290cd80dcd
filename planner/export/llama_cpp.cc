// llama.cpp's placement flags.
#include <algorithm>
#include <map>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/export/exports.h"
#include "planner/export/layer_homes.h"
#include "planner/export/words.h"
#include "planner/machine/sizes.h"
#include "planner/plan/kv_cache.h"

namespace berth {
namespace {

// What llama.cpp calls a GPU. Throws Error for those of other makers, whose names depend on how
// llama.cpp was built.
std::string gpu_name(const LayerHomes& homes, std::uint32_t device) {
  if (homes.plan.devices[device].kind == DeviceKind::kCuda)
    return "CUDA" + homes.plan.devices[device].name;
  throw Error("llama.cpp: the plan has to name " + homes.label(device) +
              ", which is of kind other: its name there depends on the backend (ROCm0, Vulkan0, "
              "Metal; `llama-server --list-devices` prints it); plan for one GPU, or without "
              "experts and heads apart from their layers");
}

// What llama.cpp calls the buffers on a device.
std::string buffer(const LayerHomes& homes, std::uint32_t device) {
  return homes.is_gpu(device) ? gpu_name(homes, device) : "CPU";
}

std::string ot(const std::string& pattern, const std::string& where) {
  return "-ot \"" + pattern + "=" + where + "\"";
}

// -ot arguments for sublayers that are not on the layer's own device. Experts come first,
// because the feed-forward's pattern matches them, too, and the first match counts.
std::vector<std::string> sublayer_overrides(const LayerHomes& homes) {
  std::map<std::uint32_t, std::vector<std::uint64_t>> experts, feed_forward;
  for (std::size_t i = 0; i < homes.layers.size(); ++i) {
    const LayerHome& layer = homes.layers[i];
    const std::uint32_t ffn = layer.device[kFeedForward];
    const std::uint32_t routed = layer.bytes[kExperts] > 0 ? layer.device[kExperts] : kNone;
    const bool ffn_apart = ffn != kNone && ffn != layer.home();
    if (ffn_apart) feed_forward[ffn].push_back(i);
    if (routed != kNone && (routed != layer.home() || ffn_apart)) experts[routed].push_back(i);
  }
  std::vector<std::string> out;
  for (const auto& [device, which] : experts) {
    out.push_back(ot("blk\\.(" + number_pattern(which) + ")\\.ffn_(up|down|gate|gate_up)_(ch|)exps",
                     buffer(homes, device)));
  }
  for (const auto& [device, which] : feed_forward) {
    out.push_back(ot("blk\\.(" + number_pattern(which) + ")\\.ffn_", buffer(homes, device)));
  }
  return out;
}

// The GPUs that hold any sublayer, or the output. llama.cpp must use them all, because an
// override may name only devices that it uses.
std::vector<std::uint32_t> gpus_of_sublayers(const LayerHomes& homes) {
  std::vector<std::uint32_t> gpus;
  for (const LayerHome& layer : homes.layers) {
    for (const std::uint32_t device : layer.device) {
      if (homes.is_gpu(device)) gpus.push_back(device);
    }
  }
  if (homes.is_gpu(homes.head)) gpus.push_back(homes.head);
  std::sort(gpus.begin(), gpus.end());
  gpus.erase(std::unique(gpus.begin(), gpus.end()), gpus.end());
  return gpus;
}

// How llama.cpp deals the layers that it offloads, which are the last ones: so many to each GPU.
// The output, which it counts as one more layer, is not among them.
struct Dealt {
  std::vector<std::uint32_t> gpus;
  std::vector<std::uint64_t> counts;  // by `gpus`
  std::vector<std::uint64_t> held;  // layers among them whose weights an override keeps on the CPU
};

// Layers of the host come first if they do in the plan, or if gather() can arrange it. If not,
// layers of the host that stand among layers of GPUs are dealt to the GPU before them, which then
// holds their KV cache.
Dealt deal_layers(LayerHomes& homes, std::vector<std::string>& notes) {
  const LayerHomes::Gathered gathered = homes.gather();
  Dealt dealt;
  dealt.gpus = homes.gpus_in_order();
  dealt.counts = layers_on(homes, dealt.gpus);
  if (gathered == LayerHomes::Gathered::kMoved) {
    notes.push_back(
        "llama.cpp offloads the last layers and splits them in order: layers trade places, as many "
        "of them on each device as planned");
  }
  if (gathered != LayerHomes::Gathered::kNoSpace) return dealt;

  std::vector<std::uint64_t> kv(dealt.gpus.size(), 0);
  dealt.counts.assign(dealt.gpus.size(), 0);
  std::size_t at = 0;
  bool any = false;  // a GPU's layer has been met
  for (std::size_t i = 0; i < homes.layers.size(); ++i) {
    const LayerHome& layer = homes.layers[i];
    if (homes.is_gpu(layer.home())) {
      while (at < dealt.gpus.size() && dealt.gpus[at] != layer.home()) ++at;
      if (at == dealt.gpus.size()) {
        throw Error("llama.cpp gives each GPU one run of layers, in order: " + homes.no_space);
      }
      any = true;
    } else if (any) {
      dealt.held.push_back(i);
      kv[at] += layer.kv_bytes;
    }
    dealt.counts[at] += any ? 1 : 0;
  }
  for (std::size_t g = 0; g < dealt.gpus.size(); ++g) {
    if (kv[g] == 0) continue;
    homes.require_space(dealt.gpus[g], kv[g],
                        "llama.cpp keeps the KV cache of layers on the CPU with a GPU's layers:");
    notes.push_back("layers of the CPU stand among layers of GPUs: their KV cache, " +
                    format_size(kv[g]) + ", is on " + homes.label(dealt.gpus[g]));
  }
  return dealt;
}

// The arguments for the KV cache: its size and, unless it is float16 as llama.cpp's is, its dtype.
std::vector<std::string> context_words(const Plan& plan, std::vector<std::string>& notes) {
  const Workload& workload = plan.workload;
  std::vector<std::string> words{"-c " + std::to_string(workload.context * workload.batch)};
  if (workload.batch > 1) words.push_back("-np " + std::to_string(workload.batch));
  const DType dtype = workload.kv_dtype.value_or(DType::kF16);
  const KvDType* row = find_kv_dtype(dtype);
  std::string name(row == nullptr ? "" : row->llama_cpp);
  if (name.empty()) {
    name = "q8_0";
    notes.push_back(dtype == DType::kI8
                        ? "llama.cpp has no int8 in its KV cache; q8_0 takes 1/16 more"
                        : "llama.cpp has no 8-bit floats in its KV cache; q8_0 takes 1/16 more");
  }
  // A default of 16 bits takes the same memory as llama.cpp's own, f16.
  const bool other = workload.kv_dtype_asked ? dtype != DType::kF16 : dtype_bits(dtype) != 16;
  if (other) words.push_back("-ctk " + name + " -ctv " + name);
  if (is_block_format(dtype)) {
    notes.push_back(
        "llama.cpp quantises values of the KV cache only with flash attention, which it "
        "turns on by itself where it can (-fa on insists)");
  }
  return words;
}

// Adds the override for the output, which llama.cpp puts with the last layers unless it is told
// otherwise. To llama.cpp a tied output is a second copy under the embedding's name, so that an
// override would move the embedding along. A tied output therefore stays with the last layers if
// there is space for it.
void place_output(const LayerHomes& homes, std::uint32_t last, std::vector<std::string>& overrides,
                  std::vector<std::string>& notes) {
  if (homes.head == kNone || homes.head == last) return;
  const bool stays =
      homes.tied && homes.is_gpu(homes.head) && homes.has_space(last, homes.embedding_bytes);
  if (stays) {
    notes.push_back("llama.cpp keeps the tied output with the last layers: " +
                    format_size(homes.embedding_bytes) + " more on " + homes.label(last));
    return;
  }
  const char* pattern = homes.tied ? "^(output|token_embd)" : "^output";
  overrides.push_back(ot(pattern, buffer(homes, homes.head)));
}

}  // namespace

Export export_llama_cpp(const ModelTree& tree, const Plan& plan) {
  LayerHomes homes(tree, plan, "llama.cpp", /*fold_disk=*/true);
  Export out;
  for (const DeviceLedger& device : plan.devices) {
    if (device.kind != DeviceKind::kDisk || device.weights == 0) continue;
    out.notes.push_back("llama.cpp has no disk tier: " + format_size(device.weights) +
                        " count as the CPU's, and its mapping of the file reads them when needed");
  }
  Dealt dealt = deal_layers(homes, out.notes);
  std::vector<std::string> overrides = sublayer_overrides(homes);
  if (!dealt.held.empty()) {
    overrides.push_back(ot("blk\\.(" + number_pattern(dealt.held) + ")\\.", "CPU"));
  }
  std::vector<std::uint32_t>& gpus = dealt.gpus;
  if (gpus.empty() && homes.is_gpu(homes.head)) {
    gpus.push_back(homes.head);
    dealt.counts.push_back(0);
  }
  std::uint64_t ngl = 0;
  if (!gpus.empty()) {
    ++dealt.counts.back();  // llama.cpp counts the output as the last layer
    for (const std::uint64_t count : dealt.counts) ngl += count;
    place_output(homes, gpus.back(), overrides, out.notes);
  }
  for (const std::uint32_t gpu : gpus_of_sublayers(homes)) {
    if (std::find(gpus.begin(), gpus.end(), gpu) != gpus.end()) continue;
    gpus.push_back(gpu);  // llama.cpp uses it, but deals no layer to it
    dealt.counts.push_back(0);
  }
  if (homes.is_gpu(homes.embedding)) {
    out.notes.push_back("llama.cpp keeps the input embedding on the CPU" +
                        std::string(homes.tied ? ", a second copy of the tied weight"
                                               : ": " + format_size(homes.embedding_bytes) +
                                                     " less on " + homes.label(homes.embedding)));
  }
  std::vector<std::string> words{"-ngl " + std::to_string(ngl)};
  if (!is_usual_order(plan, gpus)) {
    std::vector<std::string> names;
    for (const std::uint32_t gpu : gpus) names.push_back(gpu_name(homes, gpu));
    words.push_back("-dev " + (names.empty() ? "none" : join(names, ",")));
  }
  if (gpus.size() > 1) words.push_back("-ts " + numbers(dealt.counts));
  words.insert(words.end(), overrides.begin(), overrides.end());
  for (std::string& word : context_words(plan, out.notes)) words.push_back(std::move(word));
  out.arguments = join(words, " ");
  out.notes.push_back("made for weights of " + format_size(tree.bytes()) +
                      ": a GGUF of another size needs a plan of its own");
  return out;
}

}  // namespace berth
