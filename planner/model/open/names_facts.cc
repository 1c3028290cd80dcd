#include "planner/model/open/names_facts.h"

#include <algorithm>
#include <string>

#include "planner/base/quote.h"
#include "planner/model/open/block_lists.h"
#include "planner/model/open/block_scan.h"
#include "planner/model/open/causal.h"
#include "planner/model/open/guess_notes.h"
#include "planner/model/open/named_experts.h"
#include "planner/model/tree/layer_keys.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(words,
                             [&](std::string_view word) { return text.find(word) != text.npos; });
}

constexpr std::string_view kSourcePositions[] = {"max_source_positions",
                                                 "max_encoder_position_embeddings"};

class NamedFacts {
 public:
  NamedFacts(ModelTree& tree, const std::vector<ModuleId>& lists, const ModelConfig* config,
             std::optional<DType> dtype)
      : tree_(tree),
        lists_(lists),
        told_(config != nullptr),
        config_(config != nullptr ? *config : ModelConfig::parse("{}", tree.name)),
        keys_(config_),
        wanted_(dtype) {}

  void fill() {
    if (told_) check_layer_keys(keys_);
    for (const ModuleId list : lists_) {
      const std::vector<ModuleId>& blocks = tree_.modules[list].children;
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        experts_.emplace_back(
            blocks[i], mark_experts(tree_, blocks[i], experts_told(keys_, i, blocks.size())));
      }
    }
    decoder_ = choose_decoder(tree_, lists_, keys_, guesses_);
    find_ends();
    fill_model();
    if (decoder_.list != kNone) fill_layers();
    tree_.guesses = std::move(guesses_);
  }

 private:
  void guess(std::string text) { guesses_.push_back(std::move(text)); }

  void fill_model() {
    ModelFacts& facts = tree_.facts;
    facts.hidden = keys_.count(keys::kHidden).value_or(0);
    facts.intermediate = keys_.whole(keys::kIntermediate).value_or(0);
    facts.vocabulary = keys_.count(keys::kVocabulary).value_or(0);
    facts.heads = keys_.count(keys::kHeads).value_or(0);
    facts.max_positions = keys_.whole(keys::kPositions).value_or(0);
    sizes_.hidden = facts.hidden != 0 ? facts.hidden : embedding_width();
    if (told_) facts.hidden = sizes_.hidden;
    sizes_ = told_sizes(keys_, sizes_.hidden);
  }

  std::uint64_t embedding_width() const {
    if (tree_.facts.embedding == kNone) return 0;
    for (const TensorId id : tree_.modules[tree_.facts.embedding].tensors) {
      const ModelTensor& tensor = tree_.tensors[id];
      if (tensor.shape.size() == 2 && is_convertible(tensor.stored)) return tensor.shape[1];
    }
    return 0;
  }

  // Of the dtype that the model computes in: the one asked for, the config's, or that of the first
  // weight of the decoder that is a float.
  std::uint64_t element_bytes() const {
    std::optional<DType> dtype = wanted_;
    if (!dtype) dtype = parse_torch_dtype(keys_.text("dtype"));
    if (!dtype) dtype = parse_torch_dtype(config_.text("dtype").value_or(""));
    for (const ModelTensor& tensor : tree_.tensors) {
      if (dtype) break;
      if (is_convertible(tensor.dtype)) dtype = tensor.dtype;
    }
    return dtype ? std::max<std::uint64_t>(1, dtype_bits(*dtype) / 8) : 2;
  }

  void fill_layers() {
    said_ = read_layer_keys(keys_, decoder_.count);
    const std::uint64_t element = element_bytes();
    for (const ModuleId block : decoder_.blocks) {
      found_.push_back(scan_block(tree_, block, sizes_, element));
    }
    for (std::size_t i = 0; i < decoder_.blocks.size(); ++i) {
      LayerFacts layer;
      layer.module = decoder_.blocks[i];
      add_experts(layer, i);
      tree_.facts.layers.push_back(layer);
    }
    if (keeps_cache()) {
      note_keys();
      for (std::size_t i = 0; i < found_.size(); ++i) fill_cache(i);
    }
    counts_.layers = found_.size();
    counts_.unlike = unlike();
    counts_.by_config = told_elements(0) != 0;
    for (std::string& text : guess_notes(counts_)) guess(std::move(text));
    const bool caches = std::ranges::any_of(
        tree_.facts.layers, [](const LayerFacts& layer) { return layer.kv_elements > 0; });
    if (told_ && caches && tree_.facts.heads == 0) {
      guess("the number of attention heads is not told: no workspace for scores is counted");
    }
  }

  // Whether the layers keep anything; encoders do not.
  bool keeps_cache() {
    switch (writes_text(tree_, decoder_.list, keys_)) {
      case Writes::kYes:
        return true;
      case Writes::kYesGuessed:
        guess("is_decoder is false, but nothing else tells of an encoder: a KV cache is counted");
        return true;
      case Writes::kNoGuessed:
        if (any_keys()) guess("taken for an encoder by its names, which keeps no KV cache");
        return false;
      case Writes::kNotText:
        forget();
        return false;
      default:
        return false;
    }
  }

  // What reads no tokens, such as a part of a diffusion model, has no decoder either, and so
  // nothing that stands beside one.
  void forget() {
    guesses_.clear();
    for (Module& module : tree_.modules) {
      module.prompt_only = false;
      module.stage = 0;
    }
  }

  bool any_keys() const {
    return std::ranges::any_of(found_, [](const BlockFound& found) {
      return found.keys || found.recurrent || found.queries;
    });
  }

  void note_keys() {
    if (!any_keys()) return;
    for (std::string& text : said_.guesses) guess(std::move(text));
    if (!told_) {
      guess(
          "the KV cache by the shapes of keys and values alone: a config.json would tell "
          "whether layers have windows");
    }
  }

  LayerSaid said(std::size_t i) const {
    const std::size_t number = decoder_.numbers[i];
    return number < said_.layers.size() ? said_.layers[number] : LayerSaid();
  }

  static bool attends(LayerKind kind) {
    return kind == LayerKind::kFull || kind == LayerKind::kSliding || kind == LayerKind::kChunked ||
           kind == LayerKind::kHybrid;
  }

  // Keys and values of a layer as the config tells them; 0 where it does not.
  std::uint64_t told_elements(std::size_t i) const {
    if (sizes_.latent != 0) return sizes_.latent;
    const std::uint64_t kv_heads =
        keys_.of_layer(keys::kKvHeads, decoder_.numbers[i], decoder_.count)
            .value_or(sizes_.kv_heads);
    return std::min(kv_heads, kMostHeads) *
           std::min(sizes_.head_dim + sizes_.value_dim, kMostHeads);
  }

  // The nearest layer before `i`, or else behind it, that has keys of its own and is of its kind;
  // of any kind where there is none.
  std::optional<std::size_t> like(std::size_t i) const {
    for (const bool same_kind : {true, false}) {
      for (std::size_t step = 1; step < found_.size(); ++step) {
        for (const bool before : {true, false}) {
          if (before ? step > i : i + step >= found_.size()) continue;
          const std::size_t other = before ? i - step : i + step;
          if (!found_[other].keys || said(other).shares) continue;
          if (!same_kind || said(other).kind == said(i).kind) return other;
        }
      }
    }
    return std::nullopt;
  }

  std::uint64_t own_elements(std::size_t i) {
    if (found_[i].sized) return found_[i].kv;
    const std::uint64_t told = told_elements(i);
    if (told == 0) ++counts_.unsized;
    return std::max(told, found_[i].kv);
  }

  void fill_cache(std::size_t i) {
    LayerFacts& layer = tree_.facts.layers[i];
    const BlockFound& found = found_[i];
    const LayerSaid said = this->said(i);
    layer.window = said.window;
    fill_keys(i, layer, found, said);
    const std::uint64_t pair = 2 * sizes_.head_dim;
    if (pair != 0 && sizes_.latent == 0 && layer.kv_elements % pair == 0) {
      layer.head_size = layer.kv_elements == 0 ? 0 : sizes_.head_dim;
    }
  }

  void fill_keys(std::size_t i, LayerFacts& layer, const BlockFound& found, const LayerSaid& said) {
    if (found.recurrent) fill_state(layer, found);
    if (found.compresses) {
      layer.state_bytes = found.state_bytes;
      ++counts_.compressed;
    }
    if (found.cross != 0) layer.cross_elements = found.cross * source_positions();
    if (said.shares) {
      const auto other = like(i);
      layer.kv_elements = found.keys ? own_elements(i) : other ? own_elements(*other) : 0;
      layer.shares_cache = true;
    } else if (found.keys) {
      if (said.kind == LayerKind::kRecurrent && !found.recurrent) return fill_linear(layer, i);
      layer.kv_elements = own_elements(i);
    } else if (found.recurrent || said.kind == LayerKind::kNoAttention ||
               said.kind == LayerKind::kRecurrent || found.cross != 0) {
      if (said.kind == LayerKind::kRecurrent && !found.recurrent && found.cross == 0)
        ++counts_.unknown_states;
    } else {
      fill_keyless(layer, i);
    }
  }

  // A layer without keys of its own.
  void fill_keyless(LayerFacts& layer, std::size_t i) {
    const BlockFound& found = found_[i];
    const auto other = like(i);
    if (other && found.queries) {
      layer.kv_elements = own_elements(*other);
      layer.shares_cache = *other < i;
      if (!layer.shares_cache) ++counts_.borrowed;
    } else if (other) {
      if (!attends(said(i).kind)) return;  // no keys, no cache
      layer.kv_elements = own_elements(*other);
      ++counts_.borrowed;
    } else if (!any_recurrent() || attends(said(i).kind)) {
      layer.kv_elements = told_elements(i);
      ++counts_.unnamed;
    }
  }

  // Layers of the rarer of two builds, where some fuse keys with queries and others do not.
  std::size_t unlike() const {
    std::size_t fused = 0;
    std::size_t apart = 0;
    for (std::size_t i = 0; i < found_.size(); ++i) {
      if (!found_[i].keys || said(i).kind != LayerKind::kUnsaid) continue;
      ++(found_[i].fused ? fused : apart);
    }
    return std::min(fused, apart);
  }

  bool any_recurrent() const {
    return std::ranges::any_of(found_, [](const auto& found) { return found.recurrent; });
  }

  void fill_state(LayerFacts& layer, const BlockFound& found) {
    layer.state_bytes = found.state_bytes;
    if (!found.state_told) ++counts_.unknown_states;
    if (found.state_guessed) ++counts_.guessed_states;
  }

  // The config says linear attention, and the tensors are those of any attention: a matrix of a
  // head's key and value for each head.
  void fill_linear(LayerFacts& layer, std::size_t i) {
    layer.window = 0;
    const std::uint64_t dim = sizes_.linear_key_dim != 0 ? sizes_.linear_key_dim : sizes_.head_dim;
    layer.state_bytes = 4 * (own_elements(i) / 2) * dim;
    ++(dim == 0 ? counts_.unknown_states : counts_.guessed_states);
  }

  // Positions of the encoder, or of the pictures, that a layer with cross attention keeps.
  std::uint64_t source_positions() {
    if (const auto positions = keys_.whole(kSourcePositions)) return *positions;
    const std::string picture = "vision_config.";
    const auto size = config_.integer(picture + "image_size");
    const auto patch = config_.integer(picture + "patch_size");
    if (size && patch && *size > 0 && *patch > 0) {
      const auto grid = static_cast<std::uint64_t>(*size / *patch);
      const auto tiles = config_.integer(picture + "max_num_tiles");
      const std::uint64_t pictures =
          tiles ? static_cast<std::uint64_t>(std::max<std::int64_t>(1, *tiles)) : kUsualTiles;
      if (!tiles) counts_.source_positions = (grid * grid + 1) * pictures;
      return (grid * grid + 1) * pictures;
    }
    const auto positions = keys_.whole(keys::kPositions);
    counts_.source_positions = positions.value_or(kUsualPositions);
    return *counts_.source_positions;
  }

  void add_experts(LayerFacts& layer, std::size_t i) {
    const auto marked = std::ranges::find(experts_, layer.module, &Marked::first);
    layer.experts = marked == experts_.end() ? 0 : marked->second;
    if (layer.experts == 0) return;
    const auto used = experts_used(keys_, decoder_.numbers[i], decoder_.count);
    layer.experts_per_token = std::min(used.value_or(layer.experts), layer.experts);
    if (!used) counts_.all_experts = layer.experts;
  }

  // The input embedding and the head: of the language model, not of a tower. Of several embeddings
  // the one with the most rows is that of tokens; others are of positions or kinds.
  void find_ends() {
    ModelFacts& facts = tree_.facts;
    std::uint64_t most = 0;
    for (ModuleId id = 0; id < tree_.modules.size(); ++id) {
      const Module& module = tree_.modules[id];
      if (!module.children.empty() || module.tensors.empty() || module.prompt_only) continue;
      const std::string_view last =
          std::string_view(module.name).substr(module.name.rfind('.') + 1);
      const Shape& shape = tree_.tensors[module.tensors[0]].shape;
      const std::uint64_t rows = shape.size() == 2 ? shape[0] : 1;
      if (is_embedding_name(last) && rows > most && !in_layers(id)) {
        most = rows;
        facts.embedding = id;
      }
      if (facts.head == kNone && is_head_name(last) && !in_layers(id)) facts.head = id;
    }
  }

  bool in_layers(ModuleId id) const {
    for (; id != kNone; id = tree_.modules[id].parent) {
      if (tree_.modules[id].no_split) return true;
    }
    return false;
  }

  using Marked = std::pair<ModuleId, std::uint64_t>;
  static constexpr std::uint64_t kMostHeads = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kUsualPositions = 512;
  static constexpr std::uint64_t kUsualTiles = 4;  // of a picture (Llama 3.2 Vision)

  ModelTree& tree_;
  const std::vector<ModuleId>& lists_;
  bool told_;  // there is a config
  ModelConfig config_;
  TextKeys keys_;
  std::optional<DType> wanted_;
  ModelSizes sizes_;
  DecoderBlocks decoder_;
  LayersSaid said_;
  std::vector<BlockFound> found_;  // by block of the decoder
  std::vector<Marked> experts_;    // by block: how many it has
  std::vector<std::string> guesses_;
  GuessCounts counts_;
};

}  // namespace

bool is_embedding_name(std::string_view name) {
  return !contains_any(name, {"unembed", "embed_out"}) &&
         (contains_any(name, {"emb", "shared"}) || name == "wte" || name == "wpe");
}

bool is_head_name(std::string_view name) {
  return contains_any(name, {"head", "unembed", "embed_out", "classifier", "score", "cls"}) ||
         name == "output" || name == "output_layer" || name == "proj_out";
}

void fill_named_facts(ModelTree& tree, const std::vector<ModuleId>& lists,
                      const ModelConfig* config, std::optional<DType> dtype) {
  NamedFacts(tree, lists, config, dtype).fill();
}

}  // namespace berth
