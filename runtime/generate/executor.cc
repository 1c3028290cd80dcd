#include "runtime/generate/executor.h"

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
#include "runtime/generate/logits_file.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/loops.h"
#include "runtime/program/as_stored.h"
#include "runtime/program/compiled_decoder.h"
#include "runtime/program/recipe.h"
#include "runtime/program/restarting_decoder.h"
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
    if (!options.prompts.empty()) throw;
    return nullptr;
  }
  if (options.prompts.empty()) return nullptr;
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

std::vector<std::vector<std::int64_t>> prompts_of(const RunOptions& options,
                                                  const Tokenizer* tokenizer) {
  auto prompts = options.prompt_ids;
  for (const std::string& text : options.prompts) prompts.push_back(tokenizer->encode_prompt(text));
  const bool empty = std::any_of(prompts.begin(), prompts.end(),
                                 [](const std::vector<std::int64_t>& ids) { return ids.empty(); });
  if (empty || prompts.empty()) throw Error("the prompt is empty: nothing to continue");
  if (prompts.size() > 1 && options.logits_file) {
    throw Error("a file of logits takes those of one prompt, and there are " +
                std::to_string(prompts.size()));
  }
  return prompts;
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

std::int64_t greedy(std::span<const float> logits) {
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
  std::vector<std::vector<std::int64_t>> prompts;
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
  prepared.prompts = prompts_of(options, prepared.tokenizer.get());
  if (options.new_tokens > 1u << 30) throw Error("more than 2^30 new tokens were asked for");
  const std::int64_t vocabulary = vocabulary_of(model, prepared.recipe);
  for (const std::vector<std::int64_t>& ids : prepared.prompts) {
    check_prompt(ids, options.new_tokens, vocabulary, prepared.recipe);
  }
  return prepared;
}

// The last new token is never fed back, so it needs no position in the KV cache.
std::uint64_t positions_of(const Prepared& prepared, const RunOptions& options) {
  std::size_t longest = 0;
  for (const std::vector<std::int64_t>& ids : prepared.prompts) {
    longest = std::max(longest, ids.size());
  }
  return longest + std::max<std::uint64_t>(options.new_tokens, 1) - 1;
}

// The text of the new ids. It is handed out as whole characters.
class TextStream {
 public:
  TextStream(const Tokenizer* tokenizer, std::size_t sequence, const RunOptions& options)
      : sequence_(sequence), options_(options) {
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
    if (options_.on_text) options_.on_text(sequence_, text);
  }

  std::size_t sequence_;
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

void check_workload(const Plan& plan, const RunOptions& options, std::uint64_t positions) {
  const Workload& workload = plan.workload;
  const std::size_t prompts = std::max(options.prompts.size(), options.prompt_ids.size());
  if (prompts > workload.batch) {
    throw Error("the plan is for " + std::to_string(workload.batch) +
                " sequences at once, and there are " + std::to_string(prompts) +
                " prompts: plan with --batch " + std::to_string(prompts));
  }
  if (workload.batch > 1 && options.logits_file) {
    throw Error("a file of logits takes those of one sequence, and the plan is for " +
                std::to_string(workload.batch) + ": plan with --batch 1");
  }
  if (workload.context > 0 && positions > workload.context) {
    throw Error("the prompt and the new tokens need " + std::to_string(positions) +
                " positions of KV cache, and the plan has " + std::to_string(workload.context) +
                ": plan with --context " + std::to_string(positions) +
                ", or ask for fewer tokens with -n");
  }
  if (!workload.kv_dtype) return;
  const bool own = options.kernels == Kernels::kOwn;
  if (own ? !cache_format(*workload.kv_dtype) : !is_convertible(*workload.kv_dtype)) {
    throw Error("the plan keeps the KV cache in " + kv_dtype_name(*workload.kv_dtype) +
                ", which a run cannot do: plan with --kv-dtype float32, float16" +
                (own ? ", bfloat16, q8_0, fp8 or fp8_e5m2" : " or bfloat16"));
  }
}

namespace {

// Several sequences by decoders that run one each.
class DecoderOfEach final : public Decoder {
 public:
  explicit DecoderOfEach(std::vector<std::unique_ptr<Decoder>> decoders)
      : decoders_(std::move(decoders)) {}

  std::int64_t logits_width() const override { return decoders_.front()->logits_width(); }
  std::uint64_t hops() const override { return hops_; }
  void restart(std::size_t sequence) override { decoders_.at(sequence)->restart(0); }
  using Decoder::forward;
  std::span<const float> forward(std::span<const Feed> feeds, const OnLogits& all) override {
    last_.clear();
    hops_ = 0;
    for (const Feed& feed : feeds) {
      Decoder& decoder = *decoders_.at(feed.sequence);
      const std::span<const float> own = decoder.forward(feed.ids, all);
      last_.insert(last_.end(), own.begin(), own.end());
      hops_ += decoder.hops();
    }
    return last_;
  }

 private:
  std::vector<std::unique_ptr<Decoder>> decoders_;
  std::uint64_t hops_ = 0;
  std::vector<float> last_;  // what forward() gives
};

// The decoder of a run; says in `kernels` what computes.
std::unique_ptr<Decoder> make_decoder(const Prepared& prepared, const Model& model,
                                      const Plan& plan, const LoadedModel& loaded,
                                      const RunOptions& options, std::string& kernels) {
  const auto positions = static_cast<std::int64_t>(positions_of(prepared, options));
  const std::string why_not = options.kernels == Kernels::kReference
                                  ? "asked for"
                                  : why_not_compiled(prepared.recipe, model, plan, loaded);
  if (why_not.empty()) {
    kernels = instruction_set().name;
    return make_compiled_decoder(prepared.recipe, model, plan, loaded, positions, options.cancel,
                                 options.activations, options.log);
  }
  // prepare() has refused packed weights for libtorch alone.
  kernels =
      (needs_own_kernels(model.tree) ? "libtorch, packed products: " : "libtorch: ") + why_not;
  if (!options.open_reference) {
    throw Error("libtorch's decoder would have to compute, and is not here: " + why_not);
  }
  const MakeDecoder make = options.open_reference();
  std::vector<std::unique_ptr<Decoder>> decoders;
  for (std::uint64_t i = 0; i < plan.workload.batch; ++i) {
    decoders.push_back(
        make(prepared.recipe, model, plan, loaded, positions, options.cancel, options.log));
  }
  return std::make_unique<DecoderOfEach>(std::move(decoders));
}

// The sequences of a run, token by token.
class Generation {
 public:
  Generation(const Prepared& prepared, std::size_t sequences, const RunOptions& options)
      : options_(options), ends_(prepared.end_of_text) {
    for (std::size_t i = 0; i < sequences; ++i) {
      generated_.push_back({prepared.prompts[i % prepared.prompts.size()], {}, ""});
      texts_.push_back(std::make_unique<TextStream>(prepared.tokenizer.get(), i, options));
    }
    for (std::size_t i = 0; i < sequences; ++i) feeds_.push_back({i, generated_[i].prompt_ids});
  }

  // What is to be computed next: the prompts, then the newest token of each sequence that goes on.
  std::span<const Feed> feeds() const { return feeds_; }

  // Takes what was computed of feeds(): [feeds, width].
  void take(std::span<const float> logits, std::size_t width) {
    next_.clear();
    for (std::size_t i = 0; i < feeds_.size() && options_.new_tokens > 0; ++i) {
      const std::size_t sequence = feeds_[i].sequence;
      std::vector<std::int64_t>& ids = generated_[sequence].new_ids;
      ids.push_back(greedy(logits.subspan(i * width, width)));
      texts_[sequence]->add(ids.back());
      const bool ended = std::find(ends_.begin(), ends_.end(), ids.back()) != ends_.end();
      if (!ended && ids.size() < options_.new_tokens) {
        next_.push_back({sequence, std::span(ids).last(1)});
      }
    }
    std::swap(feeds_, next_);
  }

  std::vector<Generated> finish() {
    for (std::size_t i = 0; i < generated_.size(); ++i) generated_[i].text = texts_[i]->finish();
    return std::move(generated_);
  }

 private:
  const RunOptions& options_;
  const std::vector<std::int64_t>& ends_;
  std::vector<Generated> generated_;
  std::vector<std::unique_ptr<TextStream>> texts_;
  std::vector<Feed> feeds_;
  std::vector<Feed> next_;
};

}  // namespace

RunReport run(const Model& model, const Plan& plan, const LoadedModel& loaded,
              const RunOptions& options) {
  const Prepared prepared = prepare(model, options);
  check_workload(plan, options, positions_of(prepared, options));
  RunReport report;
  auto decoder = make_decoder(prepared, model, plan, loaded, options, report.kernels);
  if (const std::uint64_t length = prepared.recipe.restarts_after; length > 0) {
    decoder = std::make_unique<RestartingDecoder>(std::move(decoder), length);
  }
  const auto width = static_cast<std::size_t>(decoder->logits_width());

  std::optional<LogitsFile> logits_file;
  OnLogits on_logits;
  if (options.logits_file) {
    logits_file.emplace(*options.logits_file, prepared.prompts.front().size(), width);
    on_logits = [&](std::span<const float> rows) { logits_file->append(rows); };
  }
  Generation generation(prepared, plan.workload.batch, options);
  const auto prefill_start = Clock::now();
  std::span<const float> logits = decoder->forward(generation.feeds(), on_logits);
  report.prefill_seconds = seconds_since(prefill_start);
  if (logits_file) logits_file->finish();
  if (options.log != nullptr) options.log->prompt_passes = options.log->passes.size();

  const auto decode_start = Clock::now();
  for (generation.take(logits, width); !generation.feeds().empty();
       generation.take(logits, width)) {
    logits = decoder->forward(generation.feeds(), nullptr);
  }
  report.decode_seconds = seconds_since(decode_start);
  report.sequences = generation.finish();
  report.hops = decoder->hops();
  return report;
}

}  // namespace berth
