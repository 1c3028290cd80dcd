#include "cli/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "berth/error.h"
#include "berth/planner.h"
#include "cli/process/runtime_library.h"
#include "cli/process/terminal.h"
#include "cli/report/plan_file.h"
#include "planner/base/digits.h"
#include "planner/base/error_kinds.h"
#include "planner/base/quote.h"
#include "planner/machine/calibration.h"
#include "planner/machine/named_machine.h"
#include "planner/machine/sizes.h"
#include "planner/model/open/companions.h"
#include "planner/model/open/formats.h"
#include "planner/model/precision/requantize.h"
#include "planner/plan/device_map.h"
#include "planner/plan/map_notes.h"

namespace berth {
namespace {

// Adds a note where a setting means something else than it says.
Request make_request(const Settings& settings, std::vector<std::string>& notes) {
  Request request;
  request.policy = settings.policy.value_or(request.policy);
  request.max_memory = settings.max_memory;
  if (settings.device_map) {
    const DeviceMapChoice& choice = *settings.device_map;
    const auto* file = std::get_if<std::filesystem::path>(&choice);
    request.device_map = file ? read_device_map(*file) : std::get<DeviceMap>(choice);
    request.policy = Policy::kDeviceMap;
    if (const auto policy = policy_of(*request.device_map)) {
      notes.push_back("device map \"" + request.device_map->front().device +
                      "\": transformers places so as --policy " +
                      std::string(policy_name(*policy)) + " does");
      request.policy = *policy;
      request.device_map.reset();
    }
  }
  request.overrides = settings.overrides.value_or(std::vector<Override>{});
  request.excluded = settings.excluded.value_or(std::vector<std::string>{});
  request.priority = settings.priority.value_or(std::vector<Priority>{});
  request.no_split = settings.no_split.value_or(std::vector<std::string>{});
  request.never_offload = settings.never_offload.value_or(false);

  Workload& workload = request.workload;
  workload.batch = settings.batch.value_or(workload.batch);
  workload.context = settings.context.value_or(workload.context);
  workload.prompt_tokens = settings.prompt_tokens.value_or(workload.prompt_tokens);
  workload.new_tokens = settings.new_tokens.value_or(workload.new_tokens);
  workload.kv_dtype = settings.kv_dtype;

  request.cpu_memory = settings.cpu_memory.value_or(request.cpu_memory);
  request.staging = settings.staging.value_or(request.staging);
  return request;
}

// What --reserve keeps free of `cpu` is kept free of host RAM as a whole: if that is several NUMA
// nodes, of one after the other.
void reserve_on_nodes(std::uint64_t bytes, Machine& machine) {
  const auto nodes =
      std::count_if(machine.devices.begin(), machine.devices.end(),
                    [](const Device& device) { return device.kind == DeviceKind::kCpu; });
  for (Device& device : machine.devices) {
    if (nodes < 2 || device.kind != DeviceKind::kCpu) continue;
    device.reserve = std::min(bytes, device.capacity);
    bytes -= device.reserve;
  }
}

void apply_reserve(const std::vector<Reserve>& reserve, Machine& machine) {
  for (const Reserve& entry : reserve) {
    if (!entry.device.empty() && !machine.find(entry.device)) {
      throw NoSuchName(
          fmt::format("reserve: device {} is not on {}", quote(entry.device), machine.source));
    }
    for (Device& device : machine.devices) {
      const bool meant = entry.device.empty() ? is_gpu(device.kind) : device.name == entry.device;
      if (meant) device.reserve = entry.bytes;
    }
    if (entry.device == "cpu") reserve_on_nodes(entry.bytes, machine);
  }
}

// Refuses names in the request that match no device and no module. If they were ignored silently,
// users would believe that they had an effect.
void require_meaning(const Request& request, const ModelTree& tree, const Machine& machine) {
  const std::vector<Budget> budgets = request.max_memory.value_or(std::vector<Budget>{});
  for (const Priority& entry : request.priority) {
    const bool budgeted = std::any_of(budgets.begin(), budgets.end(), [&](const Budget& budget) {
      return budget.device == entry.device;
    });
    if (!budgeted && !machine.find(entry.device)) {
      throw NoSuchName(
          fmt::format("priority: device {} is not on {}", quote(entry.device), machine.source));
    }
  }
  for (const std::string& glob : request.no_split) {
    const bool any =
        std::any_of(tree.modules.begin(), tree.modules.end(), [&](const Module& module) {
          return glob_matches(glob, module.name) || glob_matches(glob, module.cls);
        });
    if (!any) {
      throw NoSuchName(
          fmt::format("no_split {}: matches no module and no class of {}", quote(glob), tree.name));
    }
  }
}

bool is_ordinal(std::string_view name) { return is_number(name) && name.size() <= 4; }

// To rehearse a device map without describing its hardware: a GPU that the request names and the
// machine lacks gets as much space as host RAM has, because it will be emulated there.
void add_emulated(const Request& request, Machine& machine) {
  std::vector<std::string> names;
  for (const DeviceMapEntry& entry : request.device_map.value_or(DeviceMap{})) {
    names.push_back(entry.device);
  }
  for (const Override& entry : request.overrides) names.push_back(entry.device);
  for (const std::string& name : names) {
    if (!is_ordinal(name) || machine.find(name) != nullptr) continue;
    Device device;
    device.name = name;
    device.kind = DeviceKind::kCuda;
    device.capacity = device.total = machine.host_capacity();
    device.description = "emulated";
    const auto after =
        std::find_if(machine.devices.begin(), machine.devices.end(), [&](const Device& other) {
          return !is_gpu(other.kind) || std::stoi(other.name) > std::stoi(name);
        });
    machine.devices.insert(after, device);
  }
}

// Adds to `notes` what the reader of the plan should know about the machine. `probed` becomes this
// machine, if it is looked at.
Machine choose_machine(const Options& options, const Model& model, const Request& request,
                       std::optional<Machine>& probed, std::vector<std::string>& notes) {
  const Settings& settings = options.settings;
  Machine machine;
  if (settings.machine) {
    const auto* file = std::get_if<std::filesystem::path>(&*settings.machine);
    machine = file ? read_named_machine(*file) : std::get<Machine>(*settings.machine);
  } else if (settings.max_memory) {
    machine = budget_machine(*settings.max_memory);
  } else {
    machine = probe_machine(folder_of(model));
    probed = machine;
    notes.push_back(use_calibration(machine));
    if (settings.emulate.value_or(false)) add_emulated(request, machine);
  }
  fill_defaults(machine);
  if (settings.reserve) apply_reserve(*settings.reserve, machine);
  return machine;
}

// Weights of the disk tier stay in the checkpoint, which already lies on this machine's disk. They
// need no free space there, so the checkpoint's bytes are added to the disk's capacity.
void count_checkpoint_space(const Checkpoint& checkpoint, Machine& machine) {
  for (Device& device : machine.devices) {
    if (device.kind == DeviceKind::kDisk && device.probed) device.capacity += checkpoint.bytes();
  }
}

bool is_packed(const ModelTree& tree) {
  return std::any_of(tree.tensors.begin(), tree.tensors.end(),
                     [](const ModelTensor& tensor) { return is_block_format(tensor.dtype); });
}

bool is_in_tiles(const ModelTree& tree) {
  return std::any_of(tree.tensors.begin(), tree.tensors.end(),
                     [](const ModelTensor& tensor) { return tensor.tiled; });
}

std::map<DType, std::uint64_t> bytes_by_dtype(const ModelTree& tree) {
  std::map<DType, std::uint64_t> bytes;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.persistent && !tensor.buffer) bytes[tensor.dtype] += tensor.bytes();
  }
  return bytes;
}

// Of those that can be computed with; nothing where there are none.
std::optional<DType> most_common_dtype(const ModelTree& tree) {
  std::optional<DType> found;
  std::uint64_t most = 0;
  for (const auto& [dtype, bytes] : bytes_by_dtype(tree)) {
    if (is_convertible(dtype) && bytes > most) {
      found = dtype;
      most = bytes;
    }
  }
  return found;
}

// The dtype that the weights are turned into for a run, because a run cannot compute with them as
// they are stored: bfloat16 for block formats; for a GGUF file that mixes float dtypes, the one
// that holds the most bytes. Nothing where the model has a single dtype.
std::optional<DType> dtype_to_run(const ModelTree& tree) {
  const std::map<DType, std::uint64_t> bytes = bytes_by_dtype(tree);
  if (std::any_of(bytes.begin(), bytes.end(),
                  [](const auto& entry) { return is_block_format(entry.first); })) {
    return DType::kBF16;
  }
  if (bytes.size() < 2) return std::nullopt;
  return std::max_element(bytes.begin(), bytes.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

// Whether quantised weights are to become plain ones, where the user says so.
std::optional<Dequantize> asked_for_plain(const Options& options) {
  if (!options.settings.dequantize) return std::nullopt;
  return *options.settings.dequantize ? Dequantize::kYes : Dequantize::kNo;
}

// The model as if its weights were stored in another precision. Of the checkpoint nothing is left
// but what it says of shapes.
Model open_made_anew(const Options& options, const Precision& precision) {
  const Prediction prediction = wants_prediction(options);
  Model model = open_model(options.model, std::nullopt, Dequantize::kNo, prediction);
  const std::string stored = is_quantized(model.tree) ? stored_name(model.tree) : "";
  if (!stored.empty()) {
    model = open_model(options.model, DType::kBF16, Dequantize::kYes, prediction);
  }
  model.tree = requantize(model.tree, precision, model.config.get());
  model.checkpoint.reset();
  if (!stored.empty()) {
    model.tree.notes.push_back("weights in " + std::string(precision.name) +
                               " would have to be made anew, best from the model's plain weights: "
                               "stored is " +
                               stored);
  }
  return model;
}

// Throws Error for a model that a run cannot be of.
void require_language_model(const Options& options, const Model& model) {
  if (options.command != Command::kRun || model.components.empty()) return;
  throw Error(
      fmt::format("{}: is a pipeline of diffusers ({}): Berth plans and loads it, but runs "
                  "language models only",
                  options.model.string(), model.tree.model_type));
}

// Whether some weights are made of several stored tensors without becoming plain ones.
bool is_grouped(const ModelTree& tree) {
  return std::any_of(tree.tensors.begin(), tree.tensors.end(), [](const ModelTensor& tensor) {
    return tensor.dequantization != kNone && is_block_format(tensor.dtype);
  });
}

// The model with its weights as they are stored, for a run that nobody asked for another form of
// them; those that are stored in several tensors each become one. Nothing where no kernel computes
// with that form, and where it cannot be opened so.
std::optional<Model> open_to_run_as_stored(const Options& options, Prediction prediction) {
  if (options.settings.kernels == Kernels::kReference) return std::nullopt;
  try {
    Model model = open_model(options.model, std::nullopt, Dequantize::kNo, prediction);
    if (!model.components.empty()) return std::nullopt;
    if (is_quantized(model.tree) && model.checkpoint &&
        whole_format(model.checkpoint->format) == nullptr) {
      model = open_model(options.model, std::nullopt, Dequantize::kPacked, prediction);
      if (!is_grouped(model.tree)) return std::nullopt;
    }
    const std::string why = executor_library().why_not_as_stored(model);
    if (why.empty()) return model;
    write_stderr("note: the weights are not run as they are stored: " + why + "\n");
  } catch (const Error&) {
    // Opening it in another form says what is wrong with it, if anything is.
  }
  return std::nullopt;
}

// Opens the model; `asked` is nothing where nobody said whether quantised weights are to become
// plain ones. Where the user gave no dtype and a run needs another one, chooses it and says so on
// stderr.
Model open_for(const Options& options, std::optional<DType> dtype, std::optional<Dequantize> asked,
               Prediction prediction) {
  if (options.command == Command::kRun && !dtype && asked != Dequantize::kYes) {
    if (std::optional<Model> stored = open_to_run_as_stored(options, prediction)) {
      return std::move(*stored);
    }
  }
  const Dequantize dequantize = asked.value_or(wants_plain(options));
  Model model = open_model(options.model, dtype, dequantize, prediction);
  require_language_model(options, model);
  if (options.command != Command::kRun || dtype || !model.checkpoint) return model;
  const WholeFormat* const whole = whole_format(model.checkpoint->format);
  if (whole == nullptr || !whole->mixes_floats) return model;
  dtype = dtype_to_run(model.tree);
  if (!dtype || !is_convertible(*dtype)) return model;
  write_stderr(fmt::format("note: to be run, the weights are turned into {} (--dtype chooses)\n",
                           torch_dtype_name(*dtype)));
  return open_model(options.model, dtype, dequantize, prediction);
}

}  // namespace

// A run whose kernels cannot compute with quantised weights as they are stored needs plain ones;
// other commands take them as they are, unless asked.
Dequantize wants_plain(const Options& options) {
  const bool plain = options.settings.dequantize.value_or(options.command == Command::kRun);
  return plain ? Dequantize::kYes : Dequantize::kNo;
}

Prediction wants_prediction(const Options& options) {
  // A run drafts no tokens.
  if (options.command == Command::kRun) return Prediction::kLeftOut;
  return options.settings.mtp.value_or(false) ? Prediction::kLoaded : Prediction::kLeftOut;
}

std::string stored_name(const ModelTree& tree) {
  return tree.quantization.empty() ? "quantised" : tree.quantization;
}

Model open_to_plan(const Options& options) {
  const DTypeChoice choice = options.settings.dtype.value_or(DTypeChoice{});
  if (choice.made_anew != nullptr) return open_made_anew(options, *choice.made_anew);
  return open_for(options, choice.dtype, asked_for_plain(options), wants_prediction(options));
}

PlanningTask ask_for(const Options& options, const Model& model) {
  const Settings& settings = options.settings;
  std::vector<std::string> notes;
  Request request = make_request(settings, notes);
  // A run keeps keys and values in the dtype that it computes with: beside packed weights that is
  // float32. And it wants packed weights in tiles, which mapped ones are only if the file has them.
  if (options.command == Command::kRun) {
    const bool packed = is_packed(model.tree);
    if (!request.workload.kv_dtype) {
      request.workload.kv_dtype = packed ? DType::kF32 : most_common_dtype(model.tree);
    }
    if (packed && !is_in_tiles(model.tree) && !settings.cpu_memory)
      request.cpu_memory = CpuMemory::kPrivate;
  }
  PlanningTask task;
  task.machine = choose_machine(options, model, request, task.probed, notes);
  task.machine.notes.insert(task.machine.notes.end(), notes.begin(), notes.end());
  if (model.checkpoint) count_checkpoint_space(*model.checkpoint, task.machine);
  require_meaning(request, model.tree, task.machine);
  task.request = std::move(request);
  return task;
}

Planned open_planned(const Options& options) {
  Model model = open_to_plan(options);
  PlanningTask task = ask_for(options, model);
  Planned planned{std::move(model),
                  std::move(task.machine),
                  {},
                  std::move(task.probed),
                  std::move(task.request)};
  const DTypeChoice choice = options.settings.dtype.value_or(DTypeChoice{});
  if (choice.made_anew != nullptr) planned.made_anew = choice.made_anew->name;
  return planned;
}

Planned make_planned(const Options& options) {
  if (options.plan) {
    const Settings& settings = options.settings;
    const PlanFile file = read_plan_file(*options.plan);
    const std::optional<DType> dtype = settings.dtype ? settings.dtype->dtype : file.dtype;
    const auto asked = file.dequantize ? Dequantize::kYes : asked_for_plain(options);
    const Prediction prediction = file.mtp ? Prediction::kLoaded : wants_prediction(options);
    Planned planned{open_for(options, dtype, asked, prediction), {}, {}, {}, {}};
    planned.plan = adopt_plan(file, planned.model.tree, settings);
    return planned;
  }
  Planned planned = open_planned(options);
  plan_opened(planned);
  return planned;
}

void plan_opened(Planned& planned) {
  planned.plan = make_plan(planned.model.tree, planned.machine, planned.request);
  for (const auto* notes : {&planned.model.tree.notes, &planned.machine.notes}) {
    planned.plan.notes.insert(planned.plan.notes.end(), notes->begin(), notes->end());
  }
  if (planned.plan.policy != Policy::kDeviceMap) return;
  for (std::string& note : device_map_notes(planned.model.tree, planned.plan)) {
    planned.plan.notes.push_back(std::move(note));
  }
}

}  // namespace berth
