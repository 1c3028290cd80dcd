// berth run: plan, load, generate. Text goes to stdout as it is decided, the reports to stderr.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/planning.h"
#include "cli/process/interrupt.h"
#include "cli/process/runtime_library.h"
#include "cli/process/terminal.h"
#include "cli/report/load_report.h"
#include "cli/report/plan_report.h"
#include "planner/base/json_writer.h"
#include "planner/base/output_file.h"
#include "planner/machine/sizes.h"

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

std::string rate(std::uint64_t tokens, double seconds) {
  if (tokens == 0 || seconds <= 0) return "";
  return fmt::format(" ({:.1f} tokens/s)", static_cast<double>(tokens) / seconds);
}

std::string run_summary(const Plan& plan, const RunReport& report) {
  std::uint64_t prompt = 0;
  std::uint64_t made = 0;
  std::uint64_t after_first = 0;  // the first new token of a sequence comes out of its prompt
  for (const Generated& sequence : report.sequences) {
    prompt += sequence.prompt_ids.size();
    made += sequence.new_ids.size();
    after_first += sequence.new_ids.empty() ? 0 : sequence.new_ids.size() - 1;
  }
  const std::string of =
      report.sequences.size() == 1 ? "" : fmt::format(" of {} sequences", report.sequences.size());
  std::string out = fmt::format("prompt      {} tokens{} in {:.3f} s{}\n", prompt, of,
                                report.prefill_seconds, rate(prompt, report.prefill_seconds));
  out += fmt::format("new         {} tokens{}{}\n", made, of,
                     rate(after_first, report.decode_seconds));
  out += fmt::format("kernels     {}\n", report.kernels);
  out += fmt::format("hops        {} between devices, each forward pass\n", report.hops);
  return out + device_spread(plan);
}

void write_sequence(JsonWriter& json, const Generated& sequence) {
  json.begin_object();
  json.key("prompt_ids").begin_array();
  for (const std::int64_t id : sequence.prompt_ids) json.value(id);
  json.end_array();
  json.key("new_ids").begin_array();
  for (const std::int64_t id : sequence.new_ids) json.value(id);
  json.end_array();
  json.member("text", sequence.text);
  json.end_object();
}

void write_json(const RunReport& report) {
  JsonWriter json;
  if (report.sequences.size() == 1) {
    write_sequence(json, report.sequences.front());
  } else {
    json.begin_object();
    json.key("sequences").begin_array();
    for (const Generated& sequence : report.sequences) write_sequence(json, sequence);
    json.end_array();
    json.end_object();
  }
  write_stdout(json.take());
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

// What a run does to quantised weights without being asked.
std::string dequantization_note(const ModelTree& tree) {
  std::uint64_t stored = 0;
  std::uint64_t bytes = 0;
  DType dtype = DType::kBF16;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.dequantization == kNone || tensor.tied_to != kNone) continue;
    stored += tree.stored_bytes(tensor);
    bytes += tensor.bytes();
    dtype = tensor.dtype;
  }
  return fmt::format("note: {} weights are dequantised to {} as they are loaded ({} become {})\n",
                     tree.quantization.empty() ? "FP8" : tree.quantization, torch_dtype_name(dtype),
                     format_size(stored), format_size(bytes));
}

// Whether packed weights would go to a GPU that is there, where no kernel computes with them yet.
bool packed_on_gpu(const Options& options, const Planned& planned) {
  const ModelTree& tree = planned.model.tree;
  const bool emulate = options.settings.emulate.value_or(false);
  for (TensorId id = 0; id < planned.plan.tensor_device.size(); ++id) {
    const std::uint32_t device = planned.plan.tensor_device[id];
    if (device >= planned.plan.devices.size() || !is_block_format(tree.tensors[id].dtype)) continue;
    if (!is_gpu(planned.plan.devices[device].kind)) continue;
    if (!emulate || loader_library().cuda_device_count() > 0) return true;
  }
  return false;
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
  if (!options.plan && !options.settings.dequantize && packed_on_gpu(options, planned)) {
    write_stderr("note: weights that go to a GPU are dequantised: its kernels take plain ones\n");
    Options plain = options;
    plain.settings.dequantize = true;
    return plan_run(plain);
  }
  if (planned.plan.fits()) executor_library().check_workload(planned.plan, run, positions);
  return planned;
}

RunReport load_and_run(const Options& options, const Planned& planned,
                       const std::atomic<bool>* cancel) {
  const std::unique_ptr<LoadedModel> loaded = load_by_plan(options, planned, cancel);
  write_stderr(options.verbose ? load_report(planned, loaded->report(), true)
                               : short_load_report(loaded->report()));
  RunOptions run = run_options(options);
  run.cancel = cancel;
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
    write_stderr(dequantization_note(planned.model.tree));
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
  const InterruptGuard interrupt;
  const RunReport report =
      interrupt.run([&] { return load_and_run(options, planned, interrupt.flag()); });
  if (options.json) {
    write_json(report);
  } else {
    write_answer(report);
  }
  write_stderr(run_summary(planned.plan, report));
  return kExitDone;
}

}  // namespace berth
