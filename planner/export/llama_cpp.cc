// llama.cpp's placement flags.
#include <algorithm>
#include <map>

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

// What llama.cpp calls a device and its buffers: "CUDA0", "CPU".
std::string buffer(const LayerHomes& homes, std::uint32_t device) {
  return homes.is_gpu(device) ? gpu_name(homes, device) : "CPU";
}

std::string ot(const std::string& pattern, const std::string& where) {
  return pattern + "=" + where;
}

// Overrides for sublayers that are not on the layer's own device. Experts come first,
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

std::uint32_t host_of_held(const LayerHomes& homes, const std::vector<std::uint64_t>& held) {
  return homes.layers[held.front()].home();
}

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
        throw NoSpace("llama.cpp gives each GPU one run of layers, in order: " + homes.no_space);
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
    homes.give_back(host_of_held(homes, dealt.held), kv[g]);
    notes.push_back("layers of the CPU stand among layers of GPUs: their KV cache, " +
                    format_size(kv[g]) + ", is on " + homes.label(dealt.gpus[g]));
  }
  return dealt;
}

// What the cache of a layer takes in llama.cpp beyond what was planned. That of a window has space
// for the window and a batch, in whole 256 positions (llama_kv_cache_iswa); fp8 and int8 become
// q8_0, which has a scale for each 32 values.
std::uint64_t more_cache(const LayerFacts& layer, const Workload& workload) {
  constexpr std::uint64_t kBatch = 512;  // -ub
  constexpr std::uint64_t kPad = 256;
  LayerFacts kept = layer;
  if (layer.window > 0 && layer.window < workload.context) {
    kept.window = std::min(workload.context, (layer.window + kBatch + kPad - 1) / kPad * kPad);
  }
  std::uint64_t bytes = kv_cache_bytes(kept, workload);
  const KvDType* row = find_kv_dtype(workload.kv_dtype.value_or(DType::kF16));
  if (row == nullptr || row->llama_cpp.empty()) bytes += bytes / 16;
  const std::uint64_t planned = kv_cache_bytes(layer, workload);
  return bytes > planned ? bytes - planned : 0;
}

// Counts these bytes on the GPUs that hold the caches.
void count_caches(const ModelTree& tree, LayerHomes& homes) {
  std::map<std::uint32_t, std::uint64_t> more;  // by device
  for (std::size_t i = 0; i < homes.layers.size(); ++i) {
    const std::uint64_t bytes = more_cache(tree.facts.layers[i], homes.plan.workload);
    homes.layers[i].kv_bytes += bytes;
    more[homes.layers[i].home()] += bytes;
  }
  for (const auto& [device, bytes] : more) {
    if (!homes.is_gpu(device)) continue;  // a host makes space: it drops pages of the mapped file
    homes.require_space(device, bytes, "llama.cpp's KV cache is larger than the model's:");
  }
}

// The arguments for the KV cache: its size and, unless it is float16 as llama.cpp's is, its dtype.
// The number of sequences is given where their caches are apart from each other, because
// llama-server otherwise makes four.
std::vector<std::string> context_words(const ModelTree& tree, const Plan& plan,
                                       std::vector<std::string>& notes) {
  const Workload& workload = plan.workload;
  std::vector<std::string> words{"-c " + std::to_string(workload.context * workload.batch)};
  const bool apart =
      std::any_of(tree.facts.layers.begin(), tree.facts.layers.end(), [&](const LayerFacts& layer) {
        return layer.state_bytes > 0 || (layer.window > 0 && layer.window < workload.context);
      });
  if (workload.batch > 1 || apart) words.push_back("-np " + std::to_string(workload.batch));
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
void place_output(LayerHomes& homes, std::uint32_t last, std::vector<std::string>& overrides,
                  std::vector<std::string>& notes) {
  if (homes.head == kNone || homes.head == last) return;
  const bool stays =
      homes.tied && homes.is_gpu(homes.head) && homes.has_space(last, homes.embedding_bytes);
  if (stays) {
    homes.require_space(last, homes.embedding_bytes, "llama.cpp's output:");
    notes.push_back("llama.cpp keeps the tied output with the last layers: " +
                    format_size(homes.embedding_bytes) + " more on " + homes.label(last));
    return;
  }
  const char* pattern = homes.tied ? "^(output|token_embd)" : "^output";
  overrides.push_back(ot(pattern, buffer(homes, homes.head)));
}

// The towers of a model that sees or hears are a GGUF of their own, which llama.cpp puts on the
// first GPU unless it is told to leave it on the CPU.
void place_towers(LayerHomes& homes, const std::vector<std::uint32_t>& gpus,
                  std::vector<std::string>& words, std::vector<std::string>& notes) {
  const std::uint64_t bytes = elsewhere(homes.towers, kNone);
  if (bytes == 0) return;
  notes.push_back("the towers for pictures and sound, " + format_size(bytes) +
                  ", are a file of their own: add --mmproj FILE");
  if (gpus.empty()) return;
  const std::uint64_t more = elsewhere(homes.towers, gpus.front());
  if (homes.towers[gpus.front()] == 0 || !homes.has_space(gpus.front(), more)) {
    words.emplace_back("--no-mmproj-offload");
    return;
  }
  homes.require_space(gpus.front(), more, "llama.cpp's towers:");
}

// What llama.cpp offloads: the layers that are dealt to GPUs, and the output as one more.
std::uint64_t offloaded_layers(const Dealt& dealt) {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : dealt.counts) sum += count;
  return sum;
}

// The input embedding stays on the CPU, whatever the plan says.
void note_embedding(const LayerHomes& homes, std::vector<std::string>& notes) {
  if (!homes.is_gpu(homes.embedding)) return;
  notes.push_back("llama.cpp keeps the input embedding on the CPU" +
                  std::string(homes.tied ? ", a second copy of the tied weight"
                                         : ": " + format_size(homes.before[homes.embedding]) +
                                               " less on " + homes.label(homes.embedding)));
}

void require_known(const ModelTree& tree, const LayerHomes& homes, const Dealt& dealt) {
  const KnownModel known = llama_cpp_knows(tree);
  if (!known.error.empty()) throw Error("llama.cpp: " + known.error);
  const bool divided = dealt.gpus.size() > 1 ||
                       (dealt.gpus.size() == 1 && (dealt.counts[0] < homes.layers.size() ||
                                                   elsewhere(homes.towers, dealt.gpus[0]) > 0));
  if (known.one_gpu && divided) {
    throw Error(
        "llama.cpp: it places a layer of the encoder with the layer of the decoder that "
        "has the same number, so a " +
        tree.model_type + " model can be on one GPU as a whole, or on the CPU");
  }
}

}  // namespace

Export export_llama_cpp(const ModelTree& tree, const Machine&, const Plan& plan) {
  LayerHomes homes(tree, plan, "llama.cpp", /*fold_disk=*/true);
  Export out;
  for (const DeviceLedger& device : plan.devices) {
    if (device.kind != DeviceKind::kDisk || device.weights == 0) continue;
    out.notes.push_back("llama.cpp has no disk tier: " + format_size(device.weights) +
                        " count as the CPU's, and its mapping of the file reads them when needed");
  }
  if (homes.is_gpu(homes.embedding)) {
    homes.give_back(homes.embedding, homes.tied ? 0 : homes.before[homes.embedding]);
  }
  count_caches(tree, homes);
  Dealt dealt = deal_layers(homes, out.notes);
  require_known(tree, homes, dealt);
  std::vector<std::string> overrides = sublayer_overrides(homes);
  if (!dealt.held.empty()) {
    overrides.push_back(ot("blk\\.(" + number_pattern(dealt.held) + ")\\.", "CPU"));
  }
  std::vector<std::uint32_t>& gpus = dealt.gpus;
  if (gpus.empty() && homes.is_gpu(homes.head)) {
    gpus.push_back(homes.head);
    dealt.counts.push_back(0);
  }
  if (!gpus.empty()) {
    ++dealt.counts.back();  // llama.cpp counts the output as the last layer
    place_output(homes, gpus.back(), overrides, out.notes);
  }
  const std::uint64_t ngl = offloaded_layers(dealt);
  for (const std::uint32_t gpu : gpus_of_sublayers(homes)) {
    if (std::find(gpus.begin(), gpus.end(), gpu) != gpus.end()) continue;
    gpus.push_back(gpu);  // llama.cpp uses it, but deals no layer to it
    dealt.counts.push_back(0);
  }
  note_embedding(homes, out.notes);
  std::vector<std::string> words{"-ngl " + std::to_string(ngl)};
  if (!is_usual_order(plan, gpus)) {
    std::vector<std::string> names;
    for (const std::uint32_t gpu : gpus) names.push_back(gpu_name(homes, gpu));
    words.push_back("-dev " + (names.empty() ? "none" : join(names, ",")));
  }
  if (gpus.size() > 1) words.push_back("-ts " + numbers(dealt.counts));
  // One argument: of several, newer versions take the last one only.
  if (!overrides.empty()) words.push_back("-ot \"" + join(overrides, ",") + "\"");
  if (!llama_cpp_knows(tree).one_gpu) place_towers(homes, gpus, words, out.notes);
  for (std::string& word : context_words(tree, plan, out.notes)) words.push_back(std::move(word));
  out.arguments = join(words, " ");
  out.notes.push_back("made for weights of " + format_size(tree.bytes()) +
                      ": a GGUF of another size needs a plan of its own");
  return out;
}

}  // namespace berth
