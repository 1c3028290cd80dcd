#include "cli/options/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/options/deployment.h"
#include "cli/options/flag_value.h"
#include "cli/options/values.h"

namespace berth {
namespace {

constexpr const char* kExamples =
    "\nExamples:\n"
    "  berth plan models/SmolLM2-135M-Instruct\n"
    "  berth load configs/deployments/demo.yaml --compare-naive\n"
    "  berth run models/SmolLM2-135M-Instruct --prompt \"The capital of France is\"\n"
    "\nExit: 0 done or fits, 2 does not fit, 1 error, 64 usage.\n";

// Declares flags that fill optional settings. Values are parsed by cli/values.h as they are met.
class FlagSet {
 public:
  explicit FlagSet(CLI::App& app, std::string group) : app_(app), group_(std::move(group)) {}

  template <typename T, typename Parse>
  CLI::Option* text(const std::string& flag, const std::string& shape, std::optional<T>& target,
                    const std::string& help, Parse parse) {
    const auto store = [flag, &target, parse](const std::string& text) {
      target = flag_value(flag, [&] { return parse(text); });
    };
    return app_.add_option_function<std::string>(flag, store, help)
        ->type_name(shape)
        ->group(group_);
  }

  // A flag that may be given again and again; every use adds to the list.
  template <typename T, typename Parse>
  CLI::Option* each(const std::string& flag, const std::string& shape,
                    std::optional<std::vector<T>>& target, const std::string& help, Parse parse) {
    const auto store = [flag, &target, parse](const std::vector<std::string>& texts) {
      target.emplace();
      for (const std::string& text : texts) {
        target->push_back(flag_value(flag, [&] { return parse(text); }));
      }
    };
    return app_.add_option_function<std::vector<std::string>>(flag, store, help)
        ->allow_extra_args(false)
        ->type_name(shape)
        ->group(group_);
  }

  CLI::Option* count(const std::string& flag, std::optional<std::uint64_t>& target,
                     const std::string& help) {
    return text(flag, "N", target, help, [](const std::string& text) { return count_from(text); });
  }

  CLI::Option* on(const std::string& flag, std::optional<bool>& target, const std::string& help) {
    return app_
        .add_flag_callback(
            flag, [&target] { target = true; }, help)
        ->group(group_);
  }

  CLI::Option* on(const std::string& flag, bool& target, const std::string& help) {
    return app_.add_flag(flag, target, help)->group(group_);
  }

 private:
  CLI::App& app_;
  std::string group_;
};

template <typename T>
T as_is(const std::string& text) {
  return T(text);
}

void add_placement_flags(CLI::App& app, Settings& settings) {
  FlagSet flags(app, "Placement");
  CLI::Option* policy =
      flags.text("--policy", "NAME", settings.policy,
                 "auto (default), balanced, balanced_low_0, sequential or throughput", policy_from);
  flags
      .text("--device-map", "FILE", settings.device_map,
            "use this Hugging Face device_map instead of a policy", as_is<std::filesystem::path>)
      ->excludes(policy);
  flags.text("--machine", "FILE", settings.machine,
             "hardware to plan for: a file, or a name in configs/hardware",
             as_is<std::filesystem::path>);
  flags.text("--max-memory", "LIST", settings.max_memory,
             "budgets for weights: 0=24GiB,1=24GiB,cpu=64GiB,disk=1TiB", budgets_from);
  flags.text("--dtype", "NAME", settings.dtype,
             "dtype in memory: auto (as stored, default), float32, float16 or bfloat16",
             dtype_from);
  flags.on("--dequantize", settings.dequantize,
           "quantised weights become plain ones of --dtype as they are loaded (run: always)");
  flags.text("--reserve", "SIZE", settings.reserve,
             "keep this free beside the ledger: on every GPU, or 0=1GiB,1=2GiB", reserve_from);
  flags.text("--exclude", "LIST", settings.excluded, "devices that must stay empty: 1,cpu",
             devices_from);
  flags.text("--priority", "LIST", settings.priority,
             "levels of GPUs: 2=-1,0=1; a lower one is used only where higher ones do not suffice",
             priority_from);
  flags.text("--no-split", "LIST", settings.no_split,
             "modules or classes that stay on one device, as patterns: LlamaMLP,model.layers.?",
             globs_from);
  flags.each("--override", "PATTERN=DEVICE", settings.overrides,
             "put what matches there: model.layers.2?.*=cpu; may be given again", override_from);
  flags.on("--never-offload", settings.never_offload, "weights on GPUs only, or it does not fit");
}

void add_workload_flags(CLI::App& app, Settings& settings) {
  FlagSet flags(app, "Workload");
  flags.count("--batch", settings.batch, "sequences at once (default 1)");
  flags.count("--context", settings.context,
              "positions of KV cache (default: 4096, or the model's maximum if that is less)");
  flags.count("--prompt-tokens", settings.prompt_tokens, "tokens of the prompt (default 512)");
  flags.count("--new-tokens", settings.new_tokens, "tokens to generate (default 128)");
  flags.text("--kv-dtype", "NAME", settings.kv_dtype, "dtype of the KV cache", kv_dtype_from);
}

void add_loading_flags(CLI::App& app, Settings& settings, Options& options) {
  FlagSet flags(app, "Loading");
  flags.text("--cpu-memory", "KIND", settings.cpu_memory,
             "weights in host RAM: mmap (default), private or pinned", cpu_memory_from);
  flags.on("--prefault", settings.prefault, "read mapped weights in, too");
  flags.text("--io", "ENGINE", settings.io, "auto (default), buffered, direct or uring",
             io_engine_from);
  flags.text("--staging", "SIZE", settings.staging, "bound of transient memory (default 128MiB)",
             staging_from);
  flags.on("--emulate", settings.emulate, "devices that are absent live in host memory");
  if (options.command == Command::kPlan) return;
  flags.on("--verify", settings.verify, "compare every tensor with what berth checksum wrote");
  flags.text("--checksums", "FILE", settings.checksums,
             "the same, with checksums that are not beside the model",
             as_is<std::filesystem::path>);
  flags.text("--offload-folder", "DIR", settings.offload_folder,
             "where disk tensors that are converted are kept (default: a temporary folder)",
             as_is<std::filesystem::path>);
  CLI::Option* plan =
      flags.text("--plan", "FILE", options.plan, "follow a plan made by plan --json or --save",
                 as_is<std::filesystem::path>);
  for (const char* contradiction : {"--policy", "--device-map", "--machine", "--max-memory"}) {
    plan->excludes(app.get_option(contradiction));
  }
}

void add_plan_flags(CLI::App& app, Options& options) {
  FlagSet flags(app, "Output");
  CLI::Option* json = flags.on("--json", options.json, "one JSON object on stdout");
  flags
      .on("--print-device-map", options.print_device_map,
          "only the Hugging Face device_map JSON on stdout")
      ->excludes(json);
  flags.on("--llama-cpp", options.llama_cpp, "only llama.cpp's arguments on stdout: -ngl -ts -ot");
  flags.on("--vllm", options.vllm, "only vLLM's command on stdout: VLLM_PP_LAYER_PARTITION");
  flags.on("--compare", options.compare,
           "all policies side by side: times, bytes per device, what is spilled, verdict");
  flags.text("--dot", "FILE", options.dot,
             "write the module graph, coloured by device, as DOT (- for stdout alone)",
             as_is<std::string>);
  flags.text("--svg", "FILE", options.svg,
             "draw the devices as columns filled to scale (- for stdout alone)",
             as_is<std::string>);
  flags.text("--save", "FILE", options.save, "write the plan as JSON, for load and run --plan",
             as_is<std::filesystem::path>);
  flags.on("--verbose", options.verbose, "list every module, and the estimate stage by stage");
}

void add_load_flags(CLI::App& app, Options& options) {
  FlagSet flags(app, "Output");
  flags.on("--json", options.json, "one JSON object on stdout");
  flags.on("--verbose", options.verbose, "list every module and every shard's read engine");
  flags.on("--compare-naive", options.compare_naive,
           "measure the plain way too (whole state dict, then a copy), in a child process");
  const auto measure = [](const std::string& text) {
    if (text == "naive") return Measure::kNaive;
    if (text == "frugal") return Measure::kFrugal;
    if (text == "private") return Measure::kPrivate;
    throw UsageError("naive, frugal or private");
  };
  flags.text("--measure", "WHAT", options.measure, "", measure)->group("");
}

void add_run_flags(CLI::App& app, Settings& settings, Options& options) {
  FlagSet generation(app, "Generation");
  CLI::Option* prompt = generation.text("--prompt", "TEXT", settings.prompt,
                                        "the text to go on from", as_is<std::string>);
  generation
      .text("--prompt-ids", "LIST", settings.prompt_ids, "the same as ids: 504,3575,282", ids_from)
      ->excludes(prompt);
  generation.count("-n", settings.tokens,
                   "new tokens, exactly (default: 20, or up to the model's end-of-text)");
  generation.on("--stop-at-eos", settings.stop_at_eos, "with -n: stop at end-of-text, too");
  generation.text("--logits", "FILE", settings.logits,
                  "write the prompt's logits as safetensors: `logits` [positions, vocabulary] F32",
                  as_is<std::filesystem::path>);
  FlagSet output(app, "Output");
  output.on("--json", options.json, "{\"prompt_ids\", \"new_ids\", \"text\"} on stdout");
  output.on("--verbose", options.verbose, "print the whole loading report");
}

// Help without CLI11's notes on types and exclusions: the text says what matters.
class Help : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string shape = option->get_type_name();
    return shape.empty() ? "" : " " + shape;
  }
};

bool is_deployment(const std::filesystem::path& model) {
  return model.extension() == ".yaml" || model.extension() == ".yml";
}

// A subcommand with everything it accepts, which is left out where nobody asks for it: `named` are
// the words of the command line. `options` must outlive the parsing.
CLI::App* add_command(CLI::App& app, const std::vector<std::string_view>& named, Command command,
                      const std::string& name, const std::string& help, const std::string& example,
                      Options& options, std::string& model) {
  options.command = command;
  CLI::App* sub = app.add_subcommand(name, help);
  if (std::find(named.begin(), named.end(), name) == named.end()) return sub;
  sub->add_option("MODEL", model,
                  "a checkpoint folder, a .safetensors, .gguf or .bin file, or a deployment .yaml; "
                  "plan also "
                  "takes a config.json or a module tree as JSON")
      ->type_name("");
  add_placement_flags(*sub, options.settings);
  add_workload_flags(*sub, options.settings);
  add_loading_flags(*sub, options.settings, options);
  if (command == Command::kPlan) add_plan_flags(*sub, options);
  if (command == Command::kLoad) add_load_flags(*sub, options);
  if (command == Command::kRun) add_run_flags(*sub, options.settings, options);
  sub->footer("\nExample:\n  " + example);
  return sub;
}

void read_deployment_of(Options& options) {
  options.deployment = options.model;
  Deployment deployment = read_deployment(options.deployment);
  options.model = std::move(deployment.model);
  options.settings = merge(std::move(options.settings), deployment.settings);
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  CLI::App app("Berth decides where a model's weights will live, and gets them there.", "berth");
  app.set_version_flag("--version", "berth " BERTH_VERSION);
  app.footer(kExamples);
  app.formatter(std::make_shared<Help>());
  app.get_formatter()->column_width(26);

  struct Entry {
    CLI::App* app = nullptr;
    Options options;
    std::string model;
    std::string example;
  };
  Entry plan, load, run;
  plan.example = "berth plan models/Llama-3.3-70B --machine 2x4090 --context 8192";
  load.example = "berth load models/SmolLM2-135M-Instruct --max-memory 0=100MiB,cpu=1GiB --emulate";
  run.example =
      "berth run models/SmolLM2-135M-Instruct --prompt \"The capital of France is\" -n 20";
  const std::vector<std::string_view> named(argv, argv + argc);
  plan.app = add_command(app, named, Command::kPlan, "plan", "decide where every tensor will live",
                         plan.example, plan.options, plan.model);
  load.app = add_command(app, named, Command::kLoad, "load",
                         "load by plan and report, planned beside "
                         "measured",
                         load.example, load.options, load.model);
  run.app = add_command(app, named, Command::kRun, "run", "load by plan and generate", run.example,
                        run.options, run.model);
  Options calibrate;
  calibrate.command = Command::kCalibrate;
  const CLI::App* calibrate_app = add_calibrate_command(app, calibrate.calibrate);
  Options convert;
  convert.command = Command::kConvert;
  const CLI::App* convert_app = add_convert_command(app, convert.convert);
  Options checksum;
  checksum.command = Command::kChecksum;
  const CLI::App* checksum_app = add_checksum_command(app, checksum.checksum);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return {{}, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return {{}, fmt::format("{}\n", version.what())};
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{} (see berth --help)", error.what()));
  }

  for (Entry* entry : {&plan, &load, &run}) {
    if (!entry->app->parsed()) continue;
    if (entry->model.empty()) {
      throw UsageError(fmt::format("berth {} needs a MODEL, for example: {}",
                                   entry->app->get_name(), entry->example));
    }
    entry->options.model = entry->model;
    entry->options.arguments.assign(argv + 1, argv + argc);
    if (is_deployment(entry->options.model)) read_deployment_of(entry->options);
    return {std::move(entry->options), {}};
  }
  if (calibrate_app->parsed()) return {std::move(calibrate), {}};
  if (convert_app->parsed()) return {std::move(convert), {}};
  if (checksum_app->parsed()) return {std::move(checksum), {}};
  throw UsageError(
      "berth needs a command: calibrate, checksum, convert, plan, load or run (see berth --help)");
}

}  // namespace berth
