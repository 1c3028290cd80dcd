#include "cli/options/option_table.h"

#include <algorithm>

#include "berth/error.h"
#include "cli/options/values.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/machine/sizes.h"
#include "runtime/io/engines.h"

namespace berth {
namespace {

constexpr std::string_view kPlacement = "Placement";
constexpr std::string_view kAdvice = "Advice";
constexpr std::string_view kWorkload = "Workload";
constexpr std::string_view kLoadingGroup = "Loading";
constexpr std::string_view kGeneration = "Generation";
constexpr std::string_view kCalibration = "Calibration";
constexpr std::string_view kConversion = "Conversion";
constexpr std::string_view kOutput = "Output";

std::filesystem::path named_path_from(std::string_view text) {
  if (text.empty()) throw Error("a model is named by its path");
  return text;
}

Measure measure_from(std::string_view text) {
  if (text == "naive") return Measure::kNaive;
  if (text == "frugal") return Measure::kFrugal;
  if (text == "private") return Measure::kPrivate;
  throw Error("naive, frugal or private");
}

bool for_cpu_from(std::string_view text) {
  if (text == "cpu") return true;
  throw Error(quote(text) + " is nothing that weights are written for (cpu is)");
}

constexpr OptionRow kOptions[] = {
    // What a command works on. The key `model` is deployment.cc's own: a file must have it, and
    // the command line names the file in its place.
    {.flag = "MODEL",
     .key = "model",
     .commands = kPlanning,
     .help = "a checkpoint folder, a .safetensors, .gguf or .bin file, or a deployment .yaml; plan "
             "also takes a config.json or a module tree as JSON",
     .guide = "[what can be named](#model-what-can-be-named)",
     .otherwise = "needed",
     .value = flag_value<&Options::model, path_from>()},
    {.flag = "MODEL",
     .commands = kChecksum,
     .help = "a checkpoint folder or file, GGUF too",
     .otherwise = "needed",
     .value = flag_value<&Options::model, path_from>(),
     .required = true},
    {.flag = "MODEL",
     .commands = kCalibrate,
     .help = "a checkpoint folder or file, of any format: its disk is measured by reading it",
     .guide =
         "a checkpoint folder or file, of any format, or a deployment file: the disk that holds "
         "it is measured by reading it",
     .otherwise = "a temporary file is read",
     .value = flag_value<&Options::model, named_path_from>()},
    {.flag = "IN",
     .commands = kConvert,
     .help = "a checkpoint folder, or a file of weights",
     .otherwise = "needed",
     .value = flag_value<&Options::model, path_from>(),
     .required = true},
    {.flag = "OUT",
     .commands = kConvert,
     .help = "a folder that does not exist yet",
     .otherwise = "needed",
     .value = flag_value<&Options::out, path_from>(),
     .required = true},

    {.flag = "--disk",
     .commands = kCalibrate,
     .group = kCalibration,
     .shape = "FOLDER",
     .help = "measure this folder's disk by a temporary file (default: the current folder's)",
     .guide = "measure the disk that holds this folder, by a temporary file; not together with "
              "MODEL",
     .otherwise = "the current folder",
     .value = flag_value<&Options::disk, path_from>(),
     .excludes = {"MODEL"}},
    {.flag = "--seconds",
     .commands = kCalibrate,
     .group = kCalibration,
     .shape = "N",
     .help = "seconds to spend on all measurements (default 45)",
     .guide = "the time to spend on all measurements, from 0.1 to 3600 seconds; a measurement that "
              "is steady ends sooner",
     .otherwise = "45",
     .value = flag_value<&Options::seconds, seconds_from>()},
    {.flag = "--out",
     .commands = kCalibrate,
     .group = kOutput,
     .shape = "FILE",
     .help = "machine file to write (default: where plan, load and run look for it, "
             "~/.config/berth/machine.yaml)",
     .guide = "the machine file to write",
     .otherwise = "where `plan`, `load` and `run` look for it, "
                  "[below](calibrate.md#when-a-plan-uses-it)",
     .value = flag_value<&Options::out, path_from>()},
    {.flag = "--out",
     .commands = kChecksum,
     .group = kOutput,
     .shape = "FILE",
     .help = "file to write (default: berth.checksums.json in the folder, or the file's name with "
             ".checksums.json)",
     .guide = "the file to write",
     .otherwise = "`berth.checksums.json` in the folder; of a single file, its name with "
                  "`.checksums.json` behind it",
     .value = flag_value<&Options::out, path_from>()},

    // Where the weights go.
    {.flag = "--policy",
     .key = "policy",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "NAME",
     .help = "{}",
     .guide = "how to place: {}, [as described](#policies)",
     .otherwise = "`auto`",
     .choices = policy_names,
     .value = value<&Settings::policy, policy_from>()},
    {.flag = "--device-map",
     .key = "device_map",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "FILE",
     .help = "use this Hugging Face device_map instead of a policy",
     .guide = "place by this Hugging Face device map, [a JSON file](#device-maps-and-budgets) or "
              "what transformers takes in its place (`auto`, `cuda:1`, `cpu`), instead of by a "
              "policy; a deployment file may also hold the map itself",
     .otherwise = "none",
     .value = value<&Settings::device_map, device_map_from, device_map_in>(),
     .excludes = {"--policy"}},
    {.flag = "--machine",
     .key = "machine",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "FILE",
     .help = "the hardware to plan for: a file, or a name in configs/hardware",
     .guide = "the hardware to plan for: a [machine file](#machine-files), or a name in "
              "`configs/hardware/`; a deployment file may also hold the description itself",
     .otherwise = "this machine",
     .value = value<&Settings::machine, path_from, machine_in>()},
    {.flag = "--max-memory",
     .key = "max_memory",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "LIST",
     .help = "budgets for weights: 0=24GiB,1=24GiB,cpu=64GiB,disk=1TiB",
     .guide = "the [most bytes of weights](#device-maps-and-budgets) on each device: "
              "`0=24GiB,cpu=64GiB`",
     .otherwise = "none",
     .value = value<&Settings::max_memory, budgets_from, budgets_in>()},
    {.flag = "--dtype",
     .key = "dtype",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "NAME",
     .help = "dtype in memory: auto (as stored, default), float32, float16 or bfloat16; plan also "
             "takes fp8, q4_k_m, ...: weights that somebody would have to make first",
     .guide = "the dtype of weights in memory: `auto`, `float32`, `float16` or `bfloat16`; "
              "integers, FP8 and the scales of quantised weights keep theirs; `plan` also takes "
              "[other precisions](#precisions)",
     .otherwise = "`auto`: as stored",
     .value = value<&Settings::dtype, planned_dtype_from>()},
    {.flag = "--dtype",
     .commands = kConvert,
     .group = kConversion,
     .shape = "NAME",
     .help = "dtype of what is stored as plain floats: auto (as stored, default), float32, float16 "
             "or bfloat16",
     .guide = "the dtype of what is stored as plain floats: `auto`, `float32`, `float16` or "
              "`bfloat16`; `config.json` then says so, too",
     .otherwise = "`auto`: as stored",
     .value = flag_value<&Settings::dtype, dtype_from>()},
    {.flag = "--for",
     .commands = kConvert,
     .group = kConversion,
     .shape = "cpu",
     .help = "cpu: write a GGUF model anew as GGUF, with its weights in tiles, which a run maps",
     .guide = "`cpu` writes a GGUF model anew as GGUF, with its weights "
              "[in tiles](#weights-in-tiles), which a run maps and no other program reads",
     .otherwise = "safetensors are written",
     .value = flag_value<&Options::for_cpu, for_cpu_from>(),
     .excludes = {"--dtype"}},
    {.flag = "--max-shard-size",
     .commands = kConvert,
     .group = kConversion,
     .shape = "SIZE",
     .help = "the most bytes of tensors in a file (default 5GB)",
     .guide = "the most bytes of tensors in a file; a larger tensor gets a file of its own",
     .otherwise = "5GB",
     .value = flag_value<&Options::max_shard, parse_size>()},
    {.flag = "--dequantize",
     .key = "dequantize",
     .commands = kPlanning,
     .group = kPlacement,
     .help = "quantised weights become plain ones of --dtype as they are loaded",
     .guide = "quantised weights become plain ones of `--dtype` as they are loaded, "
              "[by format](#model-what-can-be-named)",
     .otherwise = "off; a `run` turns those that no kernel computes with, unless it is `false`",
     .value = on<&Settings::dequantize>()},
    {.flag = "--mtp",
     .key = "mtp",
     .commands = kPlan | kLoad,
     .group = kPlacement,
     .help = "load the layers of multi-token prediction that the checkpoint stores, too",
     .guide = "load the layers of multi-token prediction that the checkpoint stores, too: "
              "[weights and KV cache](#model-what-can-be-named)",
     .otherwise = "off, as in transformers",
     .value = on<&Settings::mtp>()},
    {.flag = "--reserve",
     .key = "reserve",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "SIZE",
     .help = "memory to keep free beside all that the plan counts: on every GPU, or 0=1GiB,1=2GiB",
     .guide = "memory to keep free beside all that the plan counts: one size for every GPU, or "
              "`0=1GiB,1=2GiB` for those named",
     .otherwise = "what the machine file says",
     .value = value<&Settings::reserve, reserve_from, reserve_in>()},
    {.flag = "--exclude",
     .key = "exclude",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "LIST",
     .help = "devices that must stay empty: 1,cpu",
     .guide = "devices that must stay empty: `1,cpu`",
     .otherwise = "none",
     .value = value<&Settings::excluded, devices_from, list_in<device_from>>()},
    {.flag = "--priority",
     .key = "priority",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "LIST",
     .help = "levels of GPUs: 2=-1,0=1; a GPU of a lower level is used only where higher levels do "
             "not suffice",
     .guide = "levels of GPUs: `2=-1,0=1`; a GPU of a lower level is used only where those of "
              "higher levels cannot hold the model",
     .otherwise = "0 for each",
     .value = value<&Settings::priority, priority_from, priority_in>()},
    {.flag = "--no-split",
     .key = "no_split",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "LIST",
     .help = "modules or classes that stay on one device, as patterns: LlamaMLP,model.layers.?",
     .guide = "modules whose name or class matches one of these patterns stay on one device: "
              "`LlamaMLP,model.layers.?`",
     .otherwise = "the model's own classes",
     .value = value<&Settings::no_split, globs_from, list_in<glob_from>>()},
    {.flag = "--override",
     .key = "overrides",
     .commands = kPlanning,
     .group = kPlacement,
     .shape = "PATTERN=DEVICE",
     .help = "put modules and tensors that match PATTERN on DEVICE: model.layers.2?.*=cpu; may be "
             "given again",
     .guide = "modules and tensors that match the pattern go to that device: "
              "`\"model.layers.2?.*=cpu\"`; may be given again, and the first that matches wins",
     .otherwise = "none",
     .value = list<&Settings::overrides, override_from, overrides_in>()},
    {.flag = "--never-offload",
     .key = "never_offload",
     .commands = kPlanning,
     .group = kPlacement,
     .help = "put weights on GPUs only; if they cannot hold all of them, the plan does not fit",
     .guide = "put weights on GPUs only; if they cannot hold all of them, the plan does not fit",
     .otherwise = "off",
     .value = on<&Settings::never_offload>()},

    // Many plans side by side.
    {.flag = "--across",
     .key = "across",
     .commands = kPlan,
     .group = kAdvice,
     .shape = "LIST",
     .help = "plan for each of these machines: 2x4090,h100,8xh200, files, or all of "
             "configs/hardware",
     .guide = "[a table of plans](#before-renting), one for each of these machines: names and "
              "files as `--machine` takes them, or `all` of `configs/hardware/`",
     .otherwise = "one plan",
     .value = value<&Settings::across, machines_from, machines_in>(),
     .excludes = {"--device-map", "--machine", "--max-memory", "--dtype", "--dequantize"}},
    {.flag = "--dtypes",
     .key = "dtypes",
     .commands = kPlan,
     .group = kAdvice,
     .shape = "LIST",
     .help = "with --across: in each of these precisions: bfloat16,fp8,q4_k_m",
     .guide = "with `--across`: plan in each of these [precisions](#precisions)",
     .otherwise = "`auto,fp8,q4_k_m`; `auto` if the weights are quantised",
     .value = value<&Settings::dtypes, precisions_from, precisions_in>(),
     .excludes = {"--device-map", "--machine", "--max-memory", "--dtype", "--dequantize"}},
    {.flag = "--want",
     .key = "want",
     .commands = kPlan,
     .group = kAdvice,
     .shape = "RATE",
     .help = "with --across: the tokens a second that are needed: 20tok/s",
     .guide = "with `--across`: the tokens a second that are needed, of all sequences together; "
              "what reaches them comes first, the cheapest before the others",
     .otherwise = "none",
     .value = value<&Settings::want, tokens_per_second_from>(),
     .excludes = {"--device-map", "--machine", "--max-memory", "--dtype", "--dequantize"}},

    // The work that a plan is made for.
    {.flag = "--batch",
     .key = "workload.batch",
     .commands = kPlanning,
     .group = kWorkload,
     .shape = "N",
     .help = "sequences that are computed at once (default 1)",
     .guide = "sequences that are computed at once",
     .otherwise = "1",
     .value = value<&Settings::batch, positive_from, count_in<1>>()},
    {.flag = "--context",
     .key = "workload.context",
     .commands = kPlanning,
     .group = kWorkload,
     .shape = "N",
     .help = "positions of KV cache (default: 4096, or the model's maximum if that is less)",
     .guide = "positions of KV cache for each sequence; `128k` is 131072, and `1m` 1048576: all "
              "counts of tokens may be written so",
     .otherwise = "4096, or the model's maximum if that is less",
     .value = value<&Settings::context, positive_from, count_in<1>>()},
    {.flag = "--prompt-tokens",
     .key = "workload.prompt_tokens",
     .commands = kPlanning,
     .group = kWorkload,
     .shape = "N",
     .help = "tokens of the prompt (default 512)",
     .guide = "tokens of the prompt, in the work that `auto` plans for",
     .otherwise = "512",
     .value = value<&Settings::prompt_tokens, positive_from, count_in<1>>()},
    {.flag = "--new-tokens",
     .key = "workload.new_tokens",
     .commands = kPlanning,
     .group = kWorkload,
     .shape = "N",
     .help = "tokens to generate (default 128)",
     .guide = "tokens to generate, in the work that `auto` plans for",
     .otherwise = "128",
     .value = value<&Settings::new_tokens, count_from, count_in<0>>()},
    {.flag = "--kv-dtype",
     .key = "workload.kv_dtype",
     .commands = kPlanning,
     .group = kWorkload,
     .shape = "NAME",
     .help = "dtype of the KV cache",
     .guide = "the dtype of the KV cache, as torch, vLLM or llama.cpp name it: `float32` (`f32`), "
              "`float16` (`f16`), `bfloat16` (`bf16`), `fp8` (`fp8_e4m3`, `float8_e4m3fn`), "
              "`fp8_e5m2` (`float8_e5m2`), `int8`, or llama.cpp's blocks `q8_0`, `q5_1`, `q5_0`, "
              "`q4_1`, `q4_0` and `iq4_nl`",
     .otherwise = "that of the weights, or 16 bits if theirs is wider",
     .value = value<&Settings::kv_dtype, kv_dtype_from>()},

    // How the weights get there.
    {.flag = "--cpu-memory",
     .key = "cpu_memory",
     .commands = kPlanning,
     .group = kLoadingGroup,
     .shape = "KIND",
     .help = "what weights in host RAM are: {}",
     .guide = "what weights in host RAM are: {}, [as described](#cpu-memory)",
     .otherwise = "`mmap`",
     .choices = cpu_memory_names,
     .value = value<&Settings::cpu_memory, cpu_memory_from>()},
    {.flag = "--prefault",
     .key = "prefault",
     .commands = kPlanning,
     .group = kLoadingGroup,
     .help = "read mapped weights into memory before the load ends",
     .guide = "read mapped weights into memory before the load ends",
     .otherwise = "off: they are read when first used",
     .value = on<&Settings::prefault>()},
    {.flag = "--io",
     .key = "io",
     .commands = kPlanning | kConvert | kChecksum,
     .group = kLoadingGroup,
     .shape = "ENGINE",
     .help = "how files are read: {}",
     .guide = "how files are read: {}; where io_uring is forbidden, `uring` reads as `direct` "
              "does, and a note says so",
     .otherwise = "`auto`: by page cache and file system",
     .choices = io_engine_names,
     .value = value<&Settings::io, io_engine_from>()},
    {.flag = "--staging",
     .key = "staging",
     .commands = kPlanning | kConvert | kChecksum,
     .group = kLoadingGroup,
     .shape = "SIZE",
     .help = "the most memory that the buffers for loading may take (default 128MiB)",
     .guide = "the most memory that the buffers for loading may take, at least 256 KiB",
     .otherwise = "128 MiB",
     .value = value<&Settings::staging, staging_from>()},
    {.flag = "--emulate",
     .key = "emulate",
     .commands = kPlanning,
     .group = kLoadingGroup,
     .help = "keep devices that are absent in host memory",
     .guide = "keep devices that are absent in host memory, with their capacity enforced: "
              "[a rehearsal](#rehearsing-without-the-gpus)",
     .otherwise = "off",
     .value = on<&Settings::emulate>()},
    {.flag = "--verify",
     .key = "verify",
     .commands = kLoading,
     .group = kLoadingGroup,
     .help = "compare every tensor with what berth checksum wrote",
     .guide = "compare every tensor with its [checksum](#berth-checksum) while it is read; mapped "
              "tensors are read for this, too",
     .otherwise = "off",
     .value = on<&Settings::verify>()},
    {.flag = "--checksums",
     .key = "checksums",
     .commands = kLoading,
     .group = kLoadingGroup,
     .shape = "FILE",
     .help = "the same, with the checksums of this file",
     .guide = "the same, with this checksum file",
     .otherwise = "with `--verify`, the file beside the model",
     .value = value<&Settings::checksums, path_from, path_in>()},
    {.flag = "--offload-folder",
     .key = "offload_folder",
     .commands = kLoading,
     .group = kLoadingGroup,
     .shape = "DIR",
     .help = "where disk tensors that are converted are kept (default: a temporary folder)",
     .guide = "where tensors that the plan leaves on the disk are kept if `--dtype` or "
              "`--dequantize` converts them; they are gone when the process ends",
     .otherwise = "a temporary folder on a disk",
     .value = value<&Settings::offload_folder, path_from, path_in>()},
    {.flag = "--plan",
     .commands = kLoading,
     .group = kLoadingGroup,
     .shape = "FILE",
     .help = "follow a plan made by plan --json or --save",
     .guide = "follow this plan, which `plan --save` or `plan --json` wrote",
     .otherwise = "plan now",
     .value = flag_value<&Options::plan, path_from>(),
     .excludes = {"--policy", "--device-map", "--machine", "--max-memory"}},

    // What is generated.
    {.flag = "--prompt",
     .key = "run.prompt",
     .commands = kRun,
     .group = kGeneration,
     .shape = "TEXT",
     .help = "the text to go on from; several: as many sequences at once",
     .guide =
         "the text to go on from; given several times, as many sequences at once; needs a "
         "`tokenizer.json` of the BPE kind, byte-level or "
         "SentencePiece's (Llama-2, Mistral, Phi-3, Gemma), or a GGUF file that has one inside",
     .otherwise = "this or ids are needed",
     .value = list<&Settings::prompts, text_from, texts_in>()},
    {.flag = "--prompt-ids",
     .key = "run.prompt_ids",
     .commands = kRun,
     .group = kGeneration,
     .shape = "LIST",
     .help = "the same as ids: 504,3575,282",
     .guide =
         "the same as token ids: `504,3575,282`; no tokenizer is needed. In a deployment file: "
         "a list, or a list of lists",
     .value = list<&Settings::prompt_ids, ids_from, id_lists_in>(),
     .excludes = {"--prompt"}},
    {.flag = "-n",
     .key = "run.n",
     .commands = kRun,
     .group = kGeneration,
     .shape = "N",
     .help = "generate exactly so many new tokens (default: 20, or fewer where the model ends the "
             "text)",
     .guide = "generate exactly so many new tokens",
     .otherwise = "20, or fewer where the model ends the text",
     .value = value<&Settings::tokens, count_from, count_in<0>>()},
    {.flag = "--stop-at-eos",
     .key = "run.stop_at_eos",
     .commands = kRun,
     .group = kGeneration,
     .help = "with -n: stop where the model ends the text, too",
     .guide = "with `-n`: stop where the model ends the text, too",
     .otherwise = "off",
     .value = on<&Settings::stop_at_eos>()},
    {.flag = "--logits",
     .key = "run.logits",
     .commands = kRun,
     .group = kGeneration,
     .shape = "FILE",
     .help = "write the prompt's logits as safetensors: `logits` [positions, vocabulary] F32",
     .guide = "write the prompt's logits to this safetensors file: `logits` [positions, "
              "vocabulary], F32",
     .otherwise = "none",
     .value = value<&Settings::logits, path_from, path_in>()},
    {.flag = "--kernels",
     .key = "run.kernels",
     .commands = kRun,
     .group = kGeneration,
     .shape = "WHICH",
     .help = "what computes: {}",
     .guide = "what computes: {}; `own` are Berth's kernels, on weights in host memory, "
              "`reference` is libtorch, which also takes over what they cannot",
     .otherwise = "`own`",
     .choices = kernels_names,
     .value = value<&Settings::kernels, kernels_from>()},
    {.flag = "--activations",
     .key = "run.activations",
     .commands = kRun,
     .group = kGeneration,
     .shape = "WHICH",
     .help = "integers that activations become beside packed weights: {}",
     .guide =
         "what activations become beside packed weights: {}. `int24` gives the logits of the "
         "dequantised weights, to float32's precision; `int16` leaves up to 4e-4 of the largest, "
         "`int8`, which llama.cpp has, a hundred times as much. Fewer bits are quicker from "
         "about eight positions at once on",
     .otherwise = "`int24`",
     .choices = activations_names,
     .value = value<&Settings::activations, activations_from>()},
    {.flag = "--profile",
     .key = "run.profile",
     .commands = kRun,
     .group = kGeneration,
     .shape = "FILE",
     .help = "time every step, and write a Chrome trace: measured beside planned",
     .guide = "time every step, and write [a Chrome trace](guide.md#profiles): the steps by layer "
              "and device beside the planned ones",
     .otherwise = "nothing is timed",
     .value = value<&Settings::profile, path_from, path_in>()},

    // What is written, and where.
    {.flag = "--json",
     .commands = kPlan | kLoad | kCalibrate | kConvert,
     .group = kOutput,
     .help = "one JSON object on stdout",
     .guide = "write the answer as [one JSON object](guide.md#json)",
     .otherwise = "text and tables",
     .value = flag_switch<&Options::json>()},
    {.flag = "--json",
     .commands = kRun,
     .group = kOutput,
     .help = "{\"prompt_ids\", \"new_ids\", \"text\", ...} on stdout",
     .guide = "write [one JSON object](guide.md#json) instead of the text: ids, text, and what was "
              "planned beside what was measured",
     .otherwise = "the text alone",
     .value = flag_switch<&Options::json>()},
    {.flag = "--print-device-map",
     .commands = kPlan,
     .group = kOutput,
     .help = "only the Hugging Face device_map JSON on stdout",
     .guide = "write the Hugging Face device map and nothing else, ready for "
              "`from_pretrained(device_map=...)`",
     .otherwise = "off",
     .value = flag_switch<&Options::print_device_map>(),
     .excludes = {"--json", "--across"}},
    {.flag = "--llama-cpp",
     .commands = kPlan,
     .group = kOutput,
     .help = "only llama.cpp's arguments on stdout: -ngl -ts -ot",
     .guide = "write [llama.cpp's arguments](#for-other-tools) and nothing else: `-ngl -ts -ot`",
     .otherwise = "off",
     .value = flag_entry<&Options::exports, ExportTool::kLlamaCpp>(),
     .excludes = {"--across"}},
    {.flag = "--vllm",
     .commands = kPlan,
     .group = kOutput,
     .help = "only vLLM's command on stdout: VLLM_PP_LAYER_PARTITION",
     .guide = "write [vLLM's command](#for-other-tools) and nothing else, with "
              "`VLLM_PP_LAYER_PARTITION`",
     .otherwise = "off",
     .value = flag_entry<&Options::exports, ExportTool::kVllm>(),
     .excludes = {"--across"}},
    {.flag = "--compare",
     .commands = kPlan,
     .group = kOutput,
     .help = "all policies side by side: times, bytes per device, what is spilled, verdict",
     .guide = "show [all policies side by side](#comparing-policies): times, bytes on each device, "
              "what is spilled, and whether it fits",
     .otherwise = "off",
     .value = flag_switch<&Options::compare>(),
     .excludes = {"--across"}},
    {.flag = "--dot",
     .commands = kPlan,
     .group = kOutput,
     .shape = "FILE",
     .help = "write the module graph, coloured by device, as DOT (- for stdout alone)",
     .guide = "write the module graph, coloured by device, as DOT for Graphviz; `-` writes it to "
              "stdout and nothing else",
     .otherwise = "none",
     .value = flag_value<&Options::dot, text_from>(),
     .excludes = {"--across"}},
    {.flag = "--svg",
     .commands = kPlan,
     .group = kOutput,
     .shape = "FILE",
     .help = "draw the devices as columns filled to scale, or what --across found (- for stdout "
             "alone)",
     .guide =
         "[draw the devices](#a-picture) as columns filled to scale, or the table of `--across`; "
         "`-` writes the drawing to stdout and nothing else",
     .otherwise = "none",
     .value = flag_value<&Options::svg, text_from>()},
    {.flag = "--save",
     .commands = kPlan,
     .group = kOutput,
     .shape = "FILE",
     .help = "write the plan as JSON, for load and run --plan",
     .guide = "write the plan as JSON, for `load --plan` and `run --plan`",
     .otherwise = "none",
     .value = flag_value<&Options::save, path_from>(),
     .excludes = {"--across"}},
    {.flag = "--verbose",
     .commands = kPlan,
     .group = kOutput,
     .help = "list every module, and the estimate stage by stage",
     .otherwise = "off",
     .value = flag_switch<&Options::verbose>(),
     .excludes = {"--across"}},
    {.flag = "--verbose",
     .commands = kLoad,
     .group = kOutput,
     .help = "list every module and every shard's read engine",
     .otherwise = "off",
     .value = flag_switch<&Options::verbose>()},
    {.flag = "--verbose",
     .commands = kRun,
     .group = kOutput,
     .help = "print the whole loading report",
     .guide = "print the whole loading report, on stderr",
     .otherwise = "off",
     .value = flag_switch<&Options::verbose>()},
    {.flag = "--compare-naive",
     .commands = kLoad,
     .group = kOutput,
     .help = "measure the plain way too (whole state dict, then a copy), in a child process",
     .guide =
         "measure the plain way too (a whole state dict, then a copy), in a process of its own",
     .otherwise = "off",
     .value = flag_switch<&Options::compare_naive>()},
    {.flag = "--measure",  // hidden: what the child process is called with
     .commands = kLoad,
     .shape = "WHAT",
     .value = flag_value<&Options::measure, measure_from>()},
};

constexpr CommandRow kCommands[] = {
    {Command::kPlan, "plan", "decide where every tensor will live",
     "berth plan models/Llama-3.3-70B --machine 2x4090 --context 8192"},
    {Command::kLoad, "load",
     "load as planned, and report what was measured beside what was planned",
     "berth load models/SmolLM2-135M-Instruct --max-memory 0=100MiB,cpu=1GiB --emulate"},
    {Command::kRun, "run", "load as planned, then generate text",
     "berth run models/SmolLM2-135M-Instruct --prompt \"The capital of France is\" -n 20"},
    {Command::kCalibrate, "calibrate", "measure this machine, so that estimates hold here",
     "berth calibrate models/Llama-3.3-70B"},
    {Command::kConvert, "convert", "write a checkpoint as sharded safetensors, or for CPUs",
     "berth convert models/gpt2-medium-bin models/gpt2-medium", kConversion},
    {Command::kChecksum, "checksum", "write a checksum per tensor, for load and run --verify",
     "berth checksum models/SmolLM2-135M-Instruct", "Reading"},
};

// `text` with the names that `row` chooses from, each shown by `show`, in the place of its {}.
template <typename Show>
std::string with_choices(const OptionRow& row, std::string_view text, Show show) {
  std::string out(text);
  if (row.choices == nullptr) return out;
  std::vector<std::string> shown;
  for (const std::string_view name : row.choices()) shown.push_back(show(name, shown.empty()));
  return out.replace(out.find("{}"), 2, join_in_words(shown, "or"));
}

}  // namespace

std::span<const OptionRow> option_table() { return kOptions; }

std::span<const CommandRow> command_table() { return kCommands; }

std::string OptionRow::help_text() const {
  return with_choices(*this, help, [](std::string_view name, bool is_default) {
    return std::string(name) + (is_default ? " (default)" : "");
  });
}

std::string OptionRow::guide_text() const {
  return with_choices(*this, guide,
                      [](std::string_view name, bool) { return "`" + std::string(name) + "`"; });
}

std::span<const std::string_view> OptionRow::excluded_flags() const {
  const auto end = std::find(excludes.begin(), excludes.end(), std::string_view());
  return {excludes.begin(), end};
}

std::string_view heading(const OptionRow& row, const CommandRow& command) {
  if (row.is_argument()) return "Positionals";  // CLI11's
  return row.group == kLoadingGroup ? command.loading : row.group;
}

bool contradict(const OptionRow& one, const OptionRow& other) {
  const auto excludes = [](const OptionRow& row, std::string_view flag) {
    const auto flags = row.excluded_flags();
    return std::find(flags.begin(), flags.end(), flag) != flags.end();
  };
  return excludes(one, other.flag) || excludes(other, one.flag);
}

}  // namespace berth
