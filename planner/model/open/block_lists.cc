#include "planner/model/open/block_lists.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <string_view>
#include <tuple>

#include "planner/base/quote.h"

namespace berth {
namespace {

// Parts of the names of what sees, hears or speaks, and of what stands between that and the text.
constexpr std::string_view kTowers[] = {
    "vision",       "visual",    "vit",     "image",     "img",       "audio",
    "speech",       "video",     "tower",   "projector", "connector", "resampler",
    "qformer",      "perceiver", "aligner", "merger",    "mm_",       "multi_modal",
    "embed_vision", "code2wav",  "talker",  "codec",     "vocoder",   "sam_model"};
constexpr std::string_view kEncoders[] = {"encoder"};
constexpr std::string_view kPrediction[] = {"mtp", "nextn", "multi_token", "eagle", "medusa"};
// Tensors that layers of multi-token prediction have beside those of a decoder's layer (DeepSeek-V3
// and its successors).
constexpr std::string_view kPredictionParts[] = {"eh_proj", "enorm", "hnorm", "shared_head"};

bool has_any(std::string_view name, std::span<const std::string_view> words) {
  return std::ranges::any_of(words, [&](auto word) { return name.find(word) != name.npos; });
}

std::string_view last_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

std::size_t number_of(const ModelTree& tree, ModuleId block) {
  const std::string_view text = last_of(tree.modules[block].name);
  std::size_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::uint64_t bytes_below(const ModelTree& tree, ModuleId id) {
  const Module& module = tree.modules[id];
  std::uint64_t sum = 0;
  for (const TensorId tensor : module.tensors) sum += tree.tensors[tensor].bytes();
  for (const ModuleId child : module.children) sum += bytes_below(tree, child);
  return sum;
}

bool predicts_more(const ModelTree& tree, ModuleId block) {
  return std::ranges::any_of(tree.modules[block].children, [&](ModuleId child) {
    return has_any(last_of(tree.modules[child].name), kPredictionParts);
  });
}

class Lists {
 public:
  Lists(ModelTree& tree, const std::vector<ModuleId>& lists, const TextKeys& keys,
        std::vector<std::string>& guesses)
      : tree_(tree), lists_(lists), guesses_(guesses), extra_(extra_layers(keys)) {
    wanted_ = keys.whole(keys::kDecoderLayers);
    if (!wanted_) wanted_ = keys.count(keys::kLayers);
  }

  DecoderBlocks run() {
    DecoderBlocks out;
    if (lists_.empty()) return out;
    out.list = *std::ranges::max_element(lists_, {}, [&](ModuleId list) { return score(list); });
    gather(out);
    for (const ModuleId list : lists_) {
      if (list != out.list) mark_other(list, out.list);
    }
    if (any_tower_) mark_beside(out.list);
    return out;
  }

 private:
  static std::uint64_t extra_layers(const TextKeys& keys) {
    return keys.whole(keys::kMtpLayers).value_or(0);
  }

  const std::vector<ModuleId>& blocks(ModuleId list) const { return tree_.modules[list].children; }
  std::string_view name(ModuleId id) const { return tree_.modules[id].name; }

  // The numbers of a list's blocks are those of the model's layers.
  bool fits(ModuleId list) const {
    if (!wanted_) return false;
    const std::size_t last = number_of(tree_, blocks(list).back());
    return blocks(list).size() == *wanted_ || last + 1 == *wanted_ ||
           last + 1 == *wanted_ + extra_ || last + 1 == *wanted_ + 1;
  }

  std::tuple<int, std::size_t, std::uint64_t> score(ModuleId list) const {
    const bool tower = has_any(name(list), kTowers) || has_any(name(list), kPrediction);
    const int by_name = (tower ? 0 : 4) + (names_encoder(name(list)) ? 0 : 2);
    return std::tuple((fits(list) ? 3 : 0) + by_name, blocks(list).size(),
                      bytes_below(tree_, list));
  }

  void gather(DecoderBlocks& out) {
    const std::size_t last = number_of(tree_, blocks(out.list).back());
    // Some count from 1.
    const std::size_t first =
        number_of(tree_, blocks(out.list)[0]) == 1 && last == wanted_.value_or(last) ? 1 : 0;
    const bool longer = wanted_ && last - first >= *wanted_;
    std::vector<std::string> beyond;
    for (const ModuleId block : blocks(out.list)) {
      const std::size_t number = number_of(tree_, block) - first;
      const bool spare = longer && number >= *wanted_ &&
                         (number < *wanted_ + extra_ || predicts_more(tree_, block));
      if (spare) {
        mark(block, 0);
        beyond.emplace_back(name(block));
        continue;
      }
      out.blocks.push_back(block);
      out.numbers.push_back(number);
    }
    if (out.blocks.empty()) return;
    const bool whole = !wanted_ || out.numbers.back() + 1 == *wanted_;
    if (!whole || out.numbers[0] != 0) renumber(out);
    out.count = wanted_.value_or(out.numbers.back() + 1);
    if (wanted_ && !beyond.empty() && extra_ == 0) {
      guesses_.push_back(beyond[0] +
                         " is taken for a layer of multi-token prediction, which no "
                         "token of an answer needs");
    }
    const std::size_t found = out.blocks.size();
    if (whole || found == *wanted_) return;
    guesses_.push_back("the config has " + std::to_string(*wanted_) + " layers, and the list " +
                       quote(name(out.list)) + " " + std::to_string(found) +
                       " blocks: planned as the latter");
  }

  static void renumber(DecoderBlocks& out) {
    for (std::size_t i = 0; i < out.numbers.size(); ++i) out.numbers[i] = i;
  }

  void mark(ModuleId id, int stage) {
    Module& module = tree_.modules[id];
    module.prompt_only = true;
    module.stage = static_cast<std::int8_t>(stage);
    for (const ModuleId child : module.children) mark(child, stage);
  }

  bool is_above(ModuleId above, ModuleId id) const {
    for (; id != kNone; id = tree_.modules[id].parent) {
      if (id == above) return true;
    }
    return false;
  }

  // The largest part of the tree that holds `id` but not the decoder.
  ModuleId side_of(ModuleId id, ModuleId decoder) const {
    while (!is_above(tree_.modules[id].parent, decoder)) id = tree_.modules[id].parent;
    return id;
  }

  void mark_other(ModuleId list, ModuleId decoder) {
    const ModuleId side = side_of(list, decoder);
    if (has_any(name(list), kPrediction)) return mark(side, 0);
    if (has_any(name(list), kTowers) || names_encoder(name(list))) {
      any_tower_ = true;
      return mark(side, -1);
    }
    if (predicts_more(tree_, blocks(list)[0])) return mark(side, 0);
    guesses_.push_back("the blocks of " + quote(name(list)) + " are not those of the " +
                       std::to_string(blocks(decoder).size()) + " layers of " +
                       quote(name(decoder)) +
                       ": every token is priced with them, and no cache is "
                       "counted for them");
  }

  bool holds_embedding_or_head(ModuleId id) const {
    const std::string_view last = last_of(name(id));
    static constexpr std::string_view kWords[] = {"emb",  "shared", "wte",   "wpe",    "head",
                                                  "norm", "ln_f",   "score", "output", "proj_out"};
    return has_any(last, kWords);
  }

  // Projectors between a tower and the text: by their names; or beside the whole language model.
  void mark_beside(ModuleId decoder) {
    bool inside = true;  // of the language model, where the embedding of its tokens is
    for (ModuleId at = tree_.modules[decoder].parent, below = decoder; at != kNone;
         below = at, at = tree_.modules[at].parent) {
      bool embeds = false;
      for (const ModuleId child : tree_.modules[at].children) {
        if (child == below || tree_.modules[child].prompt_only) continue;
        const bool kept = holds_embedding_or_head(child);
        embeds = embeds || kept;
        if (has_any(last_of(name(child)), kTowers) || (!inside && !kept)) mark(child, -1);
      }
      if (embeds) inside = false;
    }
  }

  ModelTree& tree_;
  const std::vector<ModuleId>& lists_;
  std::vector<std::string>& guesses_;
  std::optional<std::uint64_t> wanted_;  // layers, by the config
  std::uint64_t extra_;                  // layers of multi-token prediction, by the config
  bool any_tower_ = false;
};

}  // namespace

bool names_encoder(std::string_view name) { return has_any(name, kEncoders); }

DecoderBlocks choose_decoder(ModelTree& tree, const std::vector<ModuleId>& lists,
                             const TextKeys& keys, std::vector<std::string>& guesses) {
  return Lists(tree, lists, keys, guesses).run();
}

}  // namespace berth
