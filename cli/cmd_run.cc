// berth run: plan, load, generate. Text goes to stdout as it is decided, the reports to stderr.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/planning.h"
#include "cli/process/interrupt.h"
#include "cli/process/runtime_library.h"
#include "cli/process/terminal.h"
#include "cli/report/load_report.h"
#include "cli/report/plan_report.h"
#include "cli/report/profile.h"
#include "cli/report/run_report.h"
#include "planner/base/output_file.h"
#include "planner/machine/calibration.h"
#include "planner/machine/sizes.h"
#include "planner/model/open/companions.h"

namespace berth {
namespace {

RunOptions run_options(const Options& options) {
  const Settings& settings = options.settings;
  RunOptions run;
  run.prompts = settings.prompts.value_or(run.prompts);
  run.prompt_ids = settings.prompt_ids.value_or(run.prompt_ids);
  run.new_tokens = settings.tokens.value_or(run.new_tokens);
  // If the user asked for a number of tokens, exactly that many are generated. If not, the text
  // may end sooner, where the model ends it. The setting stop_at_eos overrides both.
  run.stop_at_end_of_text = settings.stop_at_eos.value_or(!settings.tokens.has_value());
  run.logits_file = settings.logits;
  run.kernels = settings.kernels.value_or(run.kernels);
  run.activations = settings.activations.value_or(run.activations);
  run.open_reference = [] { return reference_library().make_decoder; };
  return run;
}

// The text of a single sequence was written while it was made.
void write_answer(const RunReport& report) {
  const bool several = report.sequences.size() > 1;
  for (std::size_t i = 0; i < report.sequences.size(); ++i) {
    const Generated& sequence = report.sequences[i];
    if (several) write_stdout(fmt::format("[{}] ", i + 1));
    if (sequence.text.empty()) {  // no tokenizer: ids
      write_stdout(fmt::format("{}\n", fmt::join(sequence.new_ids, ",")));
    } else {
      write_stdout(several ? sequence.text + "\n" : "\n");
    }
  }
}

// What a run makes of quantised weights without being asked: a line for each format.
std::string dequantization_notes(const ModelTree& tree) {
  struct Sizes {
    std::uint64_t stored = 0;
    std::uint64_t made = 0;
  };
  std::map<DType, Sizes> sizes;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.dequantization == kNone || tensor.tied_to != kNone) continue;
    sizes[tensor.dtype].stored += tree.stored_bytes(tensor);
    sizes[tensor.dtype].made += tensor.bytes();
  }
  std::string notes;
  for (const auto& [dtype, size] : sizes) {
    const std::string name = weight_format_name(dtype);
    const std::string what = is_block_format(dtype)
                                 ? "are kept quantised, in tiles of " + name
                                 : "are dequantised to " + name + " as they are loaded";
    notes += fmt::format("note: {} weights {} ({} become {})\n",
                         tree.quantization.empty() ? "FP8" : tree.quantization, what,
                         format_size(size.stored), format_size(size.made));
  }
  return notes;
}

// The number of the GPU that computes with a tensor, where it is really there; -1 for host memory
// and emulated GPUs.
int real_gpu(const Plan& plan, TensorId id) {
  std::uint32_t device = plan.tensor_device[id];
  if (device >= plan.devices.size()) return -1;
  if (plan.devices[device].kind == DeviceKind::kDisk) device = plan.disk_runner;
  if (device >= plan.devices.size() || plan.devices[device].kind != DeviceKind::kCuda) return -1;
  const std::string& name = plan.devices[device].name;
  int number = -1;
  std::from_chars(name.data(), name.data() + name.size(), number);
  return number < loader_library().cuda_device_count() ? number : -1;
}

// Whether there are kernels on GPUs for a weight in a packed format: GGUF's blocks that can be
// decoded, and tiles of weights that are stored in several tensors.
bool gpus_compute_packed(const ModelTensor& tensor) {
  return is_decodable(tensor.dtype) || tensor.dequantization != kNone;
}

// What real GPUs would compute.
struct GpuShare {
  bool any = false;
  int without_kernels = -1;    // a GPU that would get packed weights, and has no kernels for them
  DType packed = DType::kF32;  // their format
};
GpuShare gpu_share(const Planned& planned) {
  GpuShare share;
  std::map<int, bool> has_kernels;
  for (TensorId id = 0; id < planned.plan.tensor_device.size(); ++id) {
    const int gpu = real_gpu(planned.plan, id);
    if (gpu < 0) continue;
    share.any = true;
    const ModelTensor& tensor = planned.model.tree.tensors[id];
    if (!is_block_format(tensor.dtype)) continue;
    const auto [known, is_new] = has_kernels.try_emplace(gpu);
    if (is_new) known->second = loader_library().has_packed_kernels(gpu);
    if (known->second && gpus_compute_packed(tensor)) continue;
    share.without_kernels = gpu;
    share.packed = tensor.dtype;
  }
  return share;
}

// A plan that the run will keep to, where it fits. Where the user left the context or the length of
// the prompt open, they are large enough for the run. Throws Error, before any weight is read,
// where the run cannot be done.
Planned plan_run(const Options& options) {
  constexpr std::uint64_t kDefaultContext = 4096;
  Planned planned = options.plan ? make_planned(options) : open_planned(options);
  const RunOptions run = run_options(options);
  const std::uint64_t positions = executor_library().check_run(planned.model, run);
  if (run.kernels == Kernels::kReference) reference_library();  // or it is missing, before a load
  if (!options.plan) {
    const Settings& settings = options.settings;
    Workload& workload = planned.request.workload;
    const std::uint64_t prompt = positions + 1 - std::max<std::uint64_t>(1, run.new_tokens);
    if (!settings.context && positions > kDefaultContext) workload.context = positions;
    if (!settings.prompt_tokens) workload.prompt_tokens = std::max(workload.prompt_tokens, prompt);
    const std::size_t prompts = std::max(run.prompts.size(), run.prompt_ids.size());
    if (!settings.batch) workload.batch = prompts;
    plan_opened(planned);
  }
  const GpuShare gpus = gpu_share(planned);
  if (gpus.without_kernels >= 0) {
    const std::string why =
        fmt::format("there are no kernels here for packed weights of {} on GPU {}",
                    dtype_name(gpus.packed), gpus.without_kernels);
    if (options.plan || options.settings.dequantize) {
      throw Error(why + ": plan with --dequantize");
    }
    write_stderr("note: weights are dequantised: " + why + "\n");
    Options plain = options;
    plain.settings.dequantize = true;
    return plan_run(plain);
  }
  RunOptions checked = run;
  if (gpus.any) checked.kernels = Kernels::kReference;  // libtorch keeps the KV cache there
  if (planned.plan.fits()) executor_library().check_workload(planned.plan, checked, positions);
  return planned;
}

bool uses_a_gpu(const Plan& plan) {
  return std::any_of(plan.devices.begin(), plan.devices.end(), [](const DeviceLedger& device) {
    return is_gpu(device.kind) && device.weights > 0;
  });
}

// The machine that the run is on, with its speeds. A plan that was made earlier has none.
Machine machine_here(const Planned& planned) {
  if (!planned.machine.devices.empty()) return planned.machine;
  Machine machine = probe_machine(folder_of(planned.model));
  use_calibration(machine);
  fill_defaults(machine);
  return machine;
}

// Where steps are timed, a file for them; it can be written, or this throws Error.
std::unique_ptr<OutputFile> profile_file(const Options& options, const Plan& plan) {
  const Settings& settings = options.settings;
  if (!settings.profile) return nullptr;
  if (uses_a_gpu(plan) && !settings.emulate.value_or(false)) {
    throw Error(
        "--profile: weights are on a GPU, whose steps are not timed yet: keep them in host memory "
        "(--exclude 0), or rehearse with --emulate");
  }
  return std::make_unique<OutputFile>(*settings.profile);
}

RunReport load_and_run(const Options& options, const Planned& planned, StepLog* log,
                       const std::atomic<bool>* cancel) {
  const std::unique_ptr<LoadedModel> loaded = load_by_plan(options, planned, cancel);
  write_stderr(options.verbose ? load_report(planned, loaded->report(), true)
                               : short_load_report(loaded->report()));
  RunOptions run = run_options(options);
  run.cancel = cancel;
  run.log = log;
  if (!options.json && planned.plan.workload.batch == 1) {
    run.on_text = [](std::size_t, const std::string& piece) { write_stdout(piece); };
  }
  return executor_library().run(planned.model, planned.plan, *loaded, run);
}

}  // namespace

int cmd_run(const Options& options) {
  const Settings& settings = options.settings;
  if (!settings.prompts && !settings.prompt_ids) {
    throw UsageError("berth run needs --prompt TEXT or --prompt-ids 1,2,3");
  }
  const Planned planned = plan_run(options);
  if (planned.model.tree.quantized != nullptr && !settings.dequantize) {
    write_stderr(dequantization_notes(planned.model.tree));
  }
  if (!options.verbose) {  // else the load's report has them
    for (const std::string& note : planned.model.tree.notes) {
      write_stderr(fmt::format("note: {}\n", note));
    }
  }
  if (!planned.plan.fits()) {
    write_stderr(verdict(planned, wants_colour(Stream::kStderr)));
    return kExitDoesNotFit;
  }
  const std::unique_ptr<OutputFile> profile = profile_file(options, planned.plan);
  StepLog log;
  const InterruptGuard interrupt;
  const RunReport report = interrupt.run(
      [&] { return load_and_run(options, planned, profile ? &log : nullptr, interrupt.flag()); });
  const bool emulated = settings.emulate.value_or(false) && uses_a_gpu(planned.plan);
  const RunForecast forecast = forecast_of(planned, machine_here(planned), report, emulated);
  if (profile) {
    profile->write(profile_json(planned, forecast.forecast, log, decode_steps(report)));
    profile->finish();
  }
  if (options.json) {
    write_stdout(run_json(report, forecast));
  } else {
    write_answer(report);
  }
  write_stderr(run_report(planned.plan, report, forecast));
  return kExitDone;
}

}  // namespace berth
