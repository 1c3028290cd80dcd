#include "cli/across.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "berth/planner.h"
#include "cli/commands.h"
#include "cli/planning.h"
#include "cli/process/terminal.h"
#include "cli/report/advice_report.h"
#include "cli/report/advice_svg.h"
#include "planner/base/join.h"
#include "planner/base/output_file.h"
#include "planner/base/quote.h"
#include "planner/machine/named_machine.h"
#include "planner/model/precision/requantize.h"

namespace berth {
namespace {

struct NamedMachine {
  std::string name;
  Machine machine;
};

// The machines in the order given; `all` stands for those of configs/hardware that are not named.
std::vector<NamedMachine> read_machines(const std::vector<std::filesystem::path>& asked) {
  std::vector<std::filesystem::path> names;
  for (const std::filesystem::path& name : asked) {
    if (name != "all") {
      names.push_back(name);
      continue;
    }
    for (const std::string& known : machine_names()) {
      if (std::find(asked.begin(), asked.end(), known) == asked.end()) names.emplace_back(known);
    }
  }
  std::vector<NamedMachine> machines;
  for (const std::filesystem::path& name : names) {
    machines.push_back({printable(name.string()), read_named_machine(name)});
  }
  return machines;
}

// The options of the plan that a row stands for, but for its machine.
Options single(const Options& options, const Precision& precision, bool quantized) {
  Options one = options;
  Settings& settings = one.settings;
  settings.across.reset();
  settings.dtypes.reset();
  settings.want.reset();
  if (precision.made_anew()) {
    settings.dtype = DTypeChoice{std::nullopt, &precision};
  } else if (precision.kind == Precision::Kind::kFloat) {
    settings.dtype = DTypeChoice{precision.dtype, nullptr};
    if (quantized) settings.dequantize = true;
  }
  return one;
}

// A precision, and the model in it or why it cannot be had.
struct Variant {
  const Precision* precision = nullptr;
  Options options;
  Model model;
  std::string error;
};

// Throws Error if weights of the tree are still packed although floats were asked for.
void require_floats(const Variant& variant) {
  if (variant.precision->kind != Precision::Kind::kFloat || !is_quantized(variant.model.tree)) {
    return;
  }
  throw Error("some of its " + stored_name(variant.model.tree) +
              " weights cannot be turned into floats");
}

std::vector<const Precision*> precisions_of(const Options& options, bool quantized) {
  const Precision* const stored = find_precision("auto");
  if (!options.settings.dtypes) {
    if (quantized) return {stored};
    return {stored, find_precision("fp8"), find_precision("q4_k_m")};
  }
  std::vector<const Precision*> asked = *options.settings.dtypes;
  // What is there already is always worth a row.
  if (quantized && std::find(asked.begin(), asked.end(), stored) == asked.end()) {
    asked.insert(asked.begin(), stored);
  }
  return asked;
}

std::vector<Variant> open_variants(const Options& options, const Model& stored) {
  const bool quantized = is_quantized(stored.tree);
  std::vector<Variant> variants;
  for (const Precision* precision : precisions_of(options, quantized)) {
    Variant& variant = variants.emplace_back();
    variant.precision = precision;
    variant.options = single(options, *precision, quantized);
    try {
      variant.model = open_to_plan(variant.options);
      require_floats(variant);
    } catch (const Error& error) {
      variant.error = error.what();
    }
  }
  return variants;
}

std::uint64_t gpu_bytes(const Machine& machine) {
  std::uint64_t sum = 0;
  for (const Device& device : machine.devices) {
    if (is_gpu(device.kind)) sum += device.capacity;
  }
  return sum;
}

// `workload` gets the one that was planned for.
AdviceRow plan_row(const Variant& variant, const NamedMachine& on, Workload& workload) {
  AdviceRow row;
  row.machine = on.name;
  row.precision = variant.precision->name;
  row.price = on.machine.price;
  row.gpu_bytes = gpu_bytes(on.machine);
  row.error = variant.error;
  if (!row.error.empty()) return row;
  try {
    Options one = variant.options;
    one.settings.machine = on.machine;
    const PlanningTask task = ask_for(one, variant.model);
    Request request = task.request;
    request.suggest = false;  // a row has no space for it
    const Plan plan = make_plan(variant.model.tree, task.machine, request);
    workload = plan.workload;
    take_plan(plan, row);
    for (const auto* notes : {&variant.model.tree.notes, &task.machine.notes}) {
      row.notes.insert(row.notes.end(), notes->begin(), notes->end());
    }
  } catch (const Error& error) {
    row.error = error.what();
  }
  return row;
}

// A row for each machine and precision, planned by as many threads as the processor has.
void plan_rows(const std::vector<NamedMachine>& machines, const std::vector<Variant>& variants,
               Advice& advice) {
  const std::size_t count = machines.size() * variants.size();
  advice.rows.resize(count);
  std::vector<Workload> workloads(count);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      advice.rows[i] =
          plan_row(variants[i % variants.size()], machines[i / variants.size()], workloads[i]);
    }
  };
  const std::size_t threads =
      std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, count);
  std::vector<std::future<void>> others;
  for (std::size_t t = 1; t < threads; ++t) others.push_back(std::async(std::launch::async, work));
  work();
  for (std::future<void>& other : others) other.get();
  for (std::size_t i = 0; i < count; ++i) {
    if (advice.rows[i].error.empty()) advice.workload = workloads[i];
  }
}

void add_once(std::vector<std::string>& notes, const std::string& note) {
  if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
}

// What all rows of a machine or of a precision have in common, each once.
void collect_notes(const Model& stored, const std::vector<NamedMachine>& machines,
                   const std::vector<Variant>& variants, Advice& advice) {
  for (const std::string& note : stored.tree.notes) add_once(advice.notes, note);
  for (const Variant& variant : variants) {
    for (const std::string& note : variant.model.tree.notes) add_once(advice.notes, note);
  }
  for (const NamedMachine& machine : machines) {
    for (const std::string& note : machine.machine.notes) add_once(advice.notes, note);
  }
  if (advice.priced && !advice.comparable) {
    advice.notes.emplace_back(
        "the prices are in several currencies, so they are not compared: rows stand as without "
        "prices");
  }
}

}  // namespace

int plan_across(const Options& options) {
  const std::vector<NamedMachine> machines = read_machines(*options.settings.across);
  if (machines.empty()) throw Error("--across all: there are no machine files in configs/hardware");
  // These are never freed: to free large models takes as long as to plan them.
  static Model& stored = *new Model(open_to_plan(single(options, *find_precision("auto"), false)));
  static std::vector<Variant>& variants = *new std::vector<Variant>(open_variants(options, stored));

  Advice advice;
  advice.want = options.settings.want;
  plan_rows(machines, variants, advice);
  const bool quantized = is_quantized(stored.tree);
  for (AdviceRow& row : advice.rows) {
    row.made_anew = quantized && find_precision(row.precision)->made_anew();
  }
  rank(advice);
  collect_notes(stored, machines, variants, advice);
  const auto failed = [](const AdviceRow& row) { return !row.error.empty(); };
  if (std::all_of(advice.rows.begin(), advice.rows.end(), failed)) {
    throw Error(advice.rows[0].error);
  }

  if (options.svg && options.svg != "-") write_file(*options.svg, advice_svg(stored, advice));
  if (options.svg == "-") {
    write_stdout(advice_svg(stored, advice));
  } else {
    write_stdout(options.json ? advice_json(stored, advice) : advice_report(stored, advice));
  }
  const bool any = std::any_of(advice.rows.begin(), advice.rows.end(),
                               [](const AdviceRow& row) { return row.fits; });
  return any ? kExitDone : kExitDoesNotFit;
}

}  // namespace berth
