#include "runtime/exec/executor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string_view>
#include <variant>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/base/utf8.h"
#include "planner/model/open/companions.h"
#include "planner/model/tree/config.h"
#include "planner/plan/kv_cache.h"
#include "runtime/exec/logits_file.h"
#include "runtime/exec/plain_errors.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/kernels/loops.h"
#include "runtime/program/as_stored.h"
#include "runtime/program/compiled_decoder.h"
#include "runtime/program/recipe.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_config.h"

namespace berth {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

TokenizerSteps steps_of(const Model& model) {
  const auto file = file_beside(model, "tokenizer_config.json");
  return file.empty() ? TokenizerSteps::kOfFile : read_tokenizer_steps(file, model.tree.model_type);
}

// The tokenizer, where text goes in or is wanted out. A prompt of ids runs without one.
std::unique_ptr<Tokenizer> read_tokenizer(const Model& model, const RunOptions& options) {
  try {
    if (const std::optional<Companion> json = tokenizer_json(model)) {
      return json->from.empty()
                 ? Tokenizer::parse(json->text,
                                    model.checkpoint->shards[0].path.string() + ": its tokenizer")
                 : Tokenizer::read(json->from, steps_of(model));
    }
  } catch (const Error&) {
    if (options.prompt) throw;
    return nullptr;
  }
  if (!options.prompt) return nullptr;
  throw Error((folder_of(model) / "tokenizer.json").string() +
              ": missing; a text prompt needs it, --prompt-ids does not");
}

// The ids under `key`: an integer or a list of them.
std::vector<std::int64_t> ids_of(const ModelConfig& config, std::string_view key) {
  std::vector<std::int64_t> ids;
  if (!config.has(key)) return ids;
  try {
    for (const auto& value : config.list(key)) {
      if (const auto* id = std::get_if<std::int64_t>(&value)) ids.push_back(*id);
    }
  } catch (const Error&) {  // not a list
    ids.push_back(config.require_integer(key));
  }
  return ids;
}

// The ids of tokens that end a text: generation_config.json names them, or else config.json.
std::vector<std::int64_t> end_of_text(const Model& model) {
  const auto file = file_beside(model, "generation_config.json");
  if (!file.empty()) {
    auto ids = ids_of(ModelConfig::read(file), "eos_token_id");
    if (!ids.empty()) return ids;
  }
  return ids_of(*model.config, "eos_token_id");
}

std::vector<std::int64_t> prompt_of(const RunOptions& options, const Tokenizer* tokenizer) {
  auto ids = options.prompt ? tokenizer->encode_prompt(*options.prompt) : options.prompt_ids;
  if (ids.empty()) throw Error("the prompt is empty: nothing to continue");
  return ids;
}

// The size of the vocabulary: the rows of the embedding.
std::int64_t vocabulary_of(const Model& model, const Recipe& recipe) {
  const std::string name = std::string(recipe.family->ends.embedding) + ".weight";
  for (const ModelTensor& tensor : model.tree.tensors) {
    if (tensor.name == name && tensor.shape.size() == 2) {
      return static_cast<std::int64_t>(tensor.shape[0]);
    }
  }
  throw Error(model.path.string() + ": the model has no tensor " + quote(name));
}

void check_prompt(const std::vector<std::int64_t>& ids, std::uint64_t new_tokens,
                  std::int64_t vocabulary, const Recipe& recipe) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      throw Error("prompt id " + std::to_string(ids[i]) + " at position " + std::to_string(i) +
                  " is outside the model's vocabulary of " + std::to_string(vocabulary));
    }
  }
  const std::uint64_t most = recipe.max_positions;
  if (most > 0 && (ids.size() > most || new_tokens > most - ids.size())) {
    throw Error("the prompt's " + std::to_string(ids.size()) + " tokens and " +
                std::to_string(new_tokens) + " new ones are more than the model's " +
                std::to_string(most) + " positions");
  }
}

std::int64_t greedy(const std::vector<float>& logits) {
  const auto best = std::max_element(logits.begin(), logits.end());  // of equal ones, the first
  if (std::any_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); })) {
    throw Error("the logits are not numbers: the weights hold NaN, or overflow in their dtype");
  }
  return best - logits.begin();
}

// Everything about a run that needs no weights.
struct Prepared {
  Recipe recipe;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::int64_t> prompt_ids;
  std::vector<std::int64_t> end_of_text;
};

// Throws Error where the weights, as they will be loaded, cannot be computed with.
void check_weights(const Model& model, const Recipe& recipe, Kernels kernels) {
  const std::string why = why_not_as_stored(model.tree, *recipe.family);
  if (why.empty() && (kernels == Kernels::kOwn || !needs_own_kernels(model.tree))) return;
  const std::string form = model.tree.quantization.empty() ? "the" : model.tree.quantization;
  throw Error(model.config->source() + ": " + form + " weights cannot be run as they are stored (" +
              (why.empty() ? "--kernels reference computes with plain weights of one dtype" : why) +
              "); --dequantize, or --dtype, makes plain ones of them");
}

Prepared prepare(const Model& model, const RunOptions& options) {
  Prepared prepared;
  prepared.recipe = make_recipe(model);
  check_weights(model, prepared.recipe, options.kernels);
  prepared.tokenizer = read_tokenizer(model, options);
  if (options.stop_at_end_of_text) prepared.end_of_text = end_of_text(model);
  prepared.prompt_ids = prompt_of(options, prepared.tokenizer.get());
  if (options.new_tokens > 1u << 30) throw Error("more than 2^30 new tokens were asked for");
  check_prompt(prepared.prompt_ids, options.new_tokens, vocabulary_of(model, prepared.recipe),
               prepared.recipe);
  return prepared;
}

// The last new token is never fed back, so it needs no position in the KV cache.
std::uint64_t positions_of(const Prepared& prepared, const RunOptions& options) {
  return prepared.prompt_ids.size() + std::max<std::uint64_t>(options.new_tokens, 1) - 1;
}

// The text of the new ids. It is handed out as whole characters.
class TextStream {
 public:
  TextStream(const Tokenizer* tokenizer, const RunOptions& options) : options_(options) {
    if (tokenizer != nullptr) growing_ = tokenizer->grow(/*keep_special=*/false);
  }

  void add(std::int64_t id) {
    if (growing_) emit(characters_.push(growing_->push(id)));
  }
  std::string finish() {
    if (growing_) emit(characters_.push(growing_->finish()));
    emit(characters_.finish());
    return std::move(text_);
  }

 private:
  void emit(const std::string& text) {
    if (text.empty()) return;
    text_ += text;
    if (options_.on_text) options_.on_text(text);
  }

  const RunOptions& options_;
  std::unique_ptr<GrowingText> growing_;  // null without a tokenizer
  Utf8Stream characters_;
  std::string text_;
};

}  // namespace

std::string why_not_as_stored(const Model& model) {
  if (!model.config) return "";
  try {
    return why_not_as_stored(model.tree, *make_recipe(model).family);
  } catch (const Error&) {
    return "";  // whatever the form of the weights, it cannot be run
  }
}

std::uint64_t check_run(const Model& model, const RunOptions& options) {
  return positions_of(prepare(model, options), options);
}

void check_workload(const Plan& plan, std::uint64_t positions) {
  const Workload& workload = plan.workload;
  if (workload.batch > 1) {
    throw Error("the plan is for " + std::to_string(workload.batch) +
                " sequences at once, and a run computes one: plan with --batch 1");
  }
  if (workload.context > 0 && positions > workload.context) {
    throw Error("the prompt and the new tokens need " + std::to_string(positions) +
                " positions of KV cache, and the plan has " + std::to_string(workload.context) +
                ": plan with --context " + std::to_string(positions) +
                ", or ask for fewer tokens with -n");
  }
  if (workload.kv_dtype && !can_cache(*workload.kv_dtype)) {
    throw Error("the plan keeps the KV cache in " + kv_dtype_name(*workload.kv_dtype) +
                ", which a run cannot do: plan with --kv-dtype float32, float16 or bfloat16");
  }
}

namespace {

RunReport generate(const Model& model, const Plan& plan, const LoadedModel& loaded,
                   const RunOptions& options) {
  const Prepared prepared = prepare(model, options);
  const std::uint64_t positions = positions_of(prepared, options);
  check_workload(plan, positions);
  const Tokenizer* tokenizer = prepared.tokenizer.get();
  const auto& ends = prepared.end_of_text;
  RunReport report;
  report.prompt_ids = prepared.prompt_ids;
  const auto prompt_size = static_cast<std::int64_t>(report.prompt_ids.size());

  const std::string why_not = options.kernels == Kernels::kReference
                                  ? "asked for"
                                  : why_not_compiled(prepared.recipe, model, plan, loaded);
  if (!why_not.empty() && needs_own_kernels(model.tree)) {
    throw Error("libtorch cannot compute with the weights as they are stored (" + why_not +
                "); --dequantize, or --dtype, makes plain ones of them");
  }
  report.kernels = why_not.empty() ? instruction_set().name : "libtorch: " + why_not;
  const auto make = why_not.empty() ? make_compiled_decoder : make_reference_decoder;
  const auto decoder = make(prepared.recipe, model, plan, loaded,
                            static_cast<std::int64_t>(positions), options.cancel);

  std::optional<LogitsFile> logits_file;
  OnLogits on_logits;
  if (options.logits_file) {
    logits_file.emplace(*options.logits_file, static_cast<std::uint64_t>(prompt_size),
                        static_cast<std::uint64_t>(decoder->logits_width()));
    on_logits = [&](std::span<const float> rows) { logits_file->append(rows); };
  }
  const auto prefill_start = Clock::now();
  std::vector<float> logits = decoder->forward(report.prompt_ids, on_logits);
  report.prefill_seconds = seconds_since(prefill_start);
  if (logits_file) logits_file->finish();

  TextStream text(tokenizer, options);
  const auto decode_start = Clock::now();
  while (report.new_ids.size() < options.new_tokens) {
    const std::int64_t id = greedy(logits);
    report.new_ids.push_back(id);
    text.add(id);
    if (std::find(ends.begin(), ends.end(), id) != ends.end()) break;
    if (report.new_ids.size() < options.new_tokens) logits = decoder->forward({&id, 1}, nullptr);
  }
  report.decode_seconds = seconds_since(decode_start);
  report.text = text.finish();
  report.hops = decoder->hops();
  return report;
}

}  // namespace

RunReport run(const Model& model, const Plan& plan, const LoadedModel& loaded,
              const RunOptions& options) {
  RunReport report;
  with_plain_errors([&] { report = generate(model, plan, loaded, options); });
  return report;
}

}  // namespace berth
