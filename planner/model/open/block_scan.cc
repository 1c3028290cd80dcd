// Modules are known by their usual names, which the tables here list, and sizes by the shapes of
// their tensors. A mixer is a module that holds such projections: `self_attn`, `mixer`,
// `linear_attn`.

#include "planner/model/open/block_scan.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "planner/model/quant/quantization.h"

namespace berth {
namespace {

using Names = std::span<const std::string_view>;

constexpr std::string_view kKeys[] = {"k_proj", "key",       "k",     "wk",  "key_proj",
                                      "to_k",   "k_lin",     "lin_k", "c_k", "linear_k",
                                      "Wk",     "key_dense", "attn_k"};
constexpr std::string_view kValues[] = {"v_proj", "value",       "v",     "wv",  "value_proj",
                                        "to_v",   "v_lin",       "lin_v", "c_v", "linear_v",
                                        "Wv",     "value_dense", "attn_v"};
constexpr std::string_view kQueries[] = {
    "q_proj", "query",    "q",  "wq",       "query_proj", "to_q", "q_lin",  "lin_q",
    "c_q",    "linear_q", "Wq", "q_b_proj", "q_a_proj",   "wq_b", "attn_q", "q_attn"};
constexpr std::string_view kKeyValues[] = {"kv_proj", "kv",  "key_value", "to_kv",
                                           "wkv",     "Wkv", "c_kv",      "kv_lin"};
constexpr std::string_view kFused[] = {"qkv_proj",
                                       "qkv",
                                       "Wqkv",
                                       "wqkv",
                                       "W_pack",
                                       "c_attn",
                                       "att_proj",
                                       "query_key_value",
                                       "to_qkv",
                                       "qkv_linear",
                                       "in_proj_qkv_attn",
                                       "attn_qkv",
                                       "qkv_layer"};
constexpr std::string_view kLatents[] = {"kv_a_proj_with_mqa", "kv_a_proj", "wkv_a", "kv_down_proj",
                                         "kv_a"};
constexpr std::string_view kOutputs[] = {"o_proj", "out_proj",   "dense",   "wo", "c_proj",
                                         "proj",   "attn_out",   "out_lin", "o",  "to_out",
                                         "out",    "linear_out", "output"};
// Modules and tensors that only a recurrence has.
constexpr std::string_view kRecurrent[] = {
    "A_log",           "dt_bias",           "dt_proj",    "x_proj",       "in_proj_ba",
    "in_proj_qkvz",    "in_proj_qkv",       "conv1d",     "q_conv1d",     "k_conv1d",
    "v_conv1d",        "gk_proj",           "time_decay", "time_maa_x",   "time_faaaa",
    "time_first",      "time_mix_key",      "receptance", "igate_preact", "rg_lru",
    "recurrent_param", "g_norm_swish_gate", "f_a_proj",   "f_proj",       "r_k"};
// Parts of the names of feed-forward blocks, in which RWKV has keys and values that are no cache.
constexpr std::string_view kFeedForward[] = {"mlp", "ffn", "feed_forward", "channel_mix"};

constexpr std::uint64_t kWidestKernel = 16;

bool is_one_of(std::string_view name, Names names) {
  return std::ranges::find(names, name) != names.end();
}

std::string_view last_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

constexpr std::string_view kLinearKeyDim[] = {"linear_key_head_dim", "linear_head_k_dim",
                                              "linear_head_dim", "linear_attn_config.head_dim"};
constexpr std::string_view kLinearKeyHeads[] = {"linear_num_key_heads", "linear_num_k_heads"};
constexpr std::string_view kStateDim[] = {"ssm_state_size",  "mamba_d_state", "state_size",
                                          "mamba_state_dim", "d_state",       "ssm_cfg.d_state"};
constexpr std::string_view kStateGroups[] = {"n_groups", "mamba_n_groups", "mamba_ngroups",
                                             "num_groups"};
class Scan {
 public:
  Scan(const ModelTree& tree, const ModelSizes& sizes, std::uint64_t element_bytes)
      : tree_(tree), sizes_(sizes), element_bytes_(element_bytes) {}

  BlockFound run(ModuleId block) {
    front_ = tree_.modules[block].name.size();
    visit(block);
    return found_;
  }

 private:
  const ModelTensor* tensor(ModuleId at, std::string_view leaf) const {
    for (const TensorId id : tree_.modules[at].tensors) {
      if (last_of(tree_.tensors[id].name) == leaf) return &tree_.tensors[id];
    }
    return nullptr;
  }

  // The child of one of these names, with a weight in it or one level below (`to_out.0`).
  ModuleId child(ModuleId at, Names names) const {
    for (const ModuleId id : tree_.modules[at].children) {
      if (!is_one_of(last_of(tree_.modules[id].name), names)) continue;
      if (!tree_.modules[id].tensors.empty()) return id;
      for (const ModuleId below : tree_.modules[id].children) {
        if (last_of(tree_.modules[below].name) == "0") return below;
      }
    }
    return kNone;
  }

  bool has_weight(ModuleId at) const {
    return at != kNone && (tensor(at, "weight") || tensor(at, "qweight") ||
                           tensor(at, "weight_packed") || tensor(at, "bias"));
  }

  // How many elements a Linear gives, by its bias, its weight or its scales; 0 where none tells.
  std::uint64_t out_size(ModuleId at) const {
    const ModelTensor* bias = tensor(at, "bias");
    if (bias != nullptr && bias->shape.size() == 1) return bias->shape[0];
    const ModelTensor* weight = tensor(at, "weight");
    if (weight == nullptr) weight = tensor(at, "weight_packed");
    if (weight != nullptr && weight->shape.size() == 2) {
      const bool pairs = weight->stored == DType::kU8 && weight->shape[1] == 1;  // bitsandbytes
      if (pairs) return 0;
      const bool turned =
          weight->shape[0] == sizes_.hidden && weight->shape[1] != sizes_.hidden && is_turned_;
      return weight->shape[turned ? 1 : 0];
    }
    const ModelTensor* scales = tensor(at, "qweight") ? tensor(at, "scales") : nullptr;
    return scales != nullptr && scales->shape.size() == 2 ? scales->shape[1] : 0;
  }

  // How many elements a Linear takes, where its weight is stored plainly; else 0.
  std::uint64_t in_size(ModuleId at) const {
    if (at == kNone) return 0;
    const ModelTensor* order = tensor(at, "g_idx");
    if (order != nullptr && order->shape.size() == 1) return order->shape[0];
    const ModelTensor* weight = tensor(at, "weight");
    if (weight == nullptr || weight->shape.size() != 2) return 0;
    if (!is_convertible(weight->stored) && dtype_bits(weight->stored) != 8) return 0;
    if (weight->stored == DType::kU8) return 0;
    const bool turned = weight->shape[1] == sizes_.hidden && weight->shape[0] != sizes_.hidden;
    return weight->shape[turned ? 0 : 1];
  }

  void visit(ModuleId at) {
    const Module& module = tree_.modules[at];
    if (module.expert) return;
    const std::string_view name = last_of(module.name);
    if (std::ranges::any_of(kFeedForward,
                            [&](auto word) { return name.find(word) != name.npos; })) {
      return;
    }
    if (is_recurrent(at)) {
      scan_recurrence(at);
    } else {
      scan_attention(at);
    }
    if (name == "compressor" || name == "indexer") scan_compressor(at);
    for (const ModuleId id : module.children) visit(id);
  }

  bool is_recurrent(ModuleId at) const {
    const Module& module = tree_.modules[at];
    // Mamba 1 has a projection for its steps, but no keys; Doge has both, and is attention.
    const bool attends = child(at, kKeys) != kNone && child(at, kQueries) != kNone;
    const auto is_mark = [&](std::string_view name) {
      if (attends && last_of(name) == "dt_proj") return false;
      return is_one_of(last_of(name), kRecurrent);
    };
    const bool marked =
        std::ranges::any_of(module.tensors,
                            [&](TensorId id) { return is_mark(tree_.tensors[id].name); }) ||
        std::ranges::any_of(module.children,
                            [&](ModuleId id) { return is_mark(tree_.modules[id].name); });
    return marked || depthwise_elements(at) > 0;
  }

  // Elements that convolutions along the sequence keep: of each channel, as many as the kernel has.
  std::uint64_t depthwise_elements(ModuleId at) const {
    std::uint64_t sum = 0;
    for (const ModuleId id : tree_.modules[at].children) {
      const std::string_view name = last_of(tree_.modules[id].name);
      const ModelTensor* weight = name.find("conv") == name.npos ? nullptr : tensor(id, "weight");
      if (weight == nullptr || weight->shape.size() != 3) continue;
      // MLX stores [channels, kernel, 1], with a few positions as the kernel.
      const bool turned = weight->shape[2] == 1 && weight->shape[1] <= kWidestKernel;
      if (weight->shape[1] != 1 && !turned) continue;
      sum += weight->shape[0] * weight->shape[1] * weight->shape[2];
    }
    return sum;
  }

  std::uint64_t depthwise_channels(ModuleId at) const {
    std::uint64_t sum = 0;
    for (const ModuleId id : tree_.modules[at].children) {
      const std::string_view name = last_of(tree_.modules[id].name);
      const ModelTensor* weight = name.find("conv") == name.npos ? nullptr : tensor(id, "weight");
      if (weight != nullptr && weight->shape.size() == 3) sum += weight->shape[0];
    }
    return sum;
  }

  bool is_cross(ModuleId at) const {
    std::string path(tree_.modules[at].name.substr(front_));
    std::ranges::transform(path, path.begin(), [](unsigned char c) { return std::tolower(c); });
    return path.find("cross") != path.npos || path.find("encdec") != path.npos ||
           path.find("encoder_attn") != path.npos || path.find("enc_dec") != path.npos;
  }

  // Adds keys and values of attention. `size` 0: the shapes do not tell it.
  void add(ModuleId at, std::uint64_t size) {
    const bool cross = is_cross(at);
    if (cross) {
      found_.cross += size;
    } else {
      found_.keys = true;
      found_.kv += size;
    }
    if (size == 0) found_.sized = false;
  }

  void scan_attention(ModuleId at) {
    is_turned_ = false;
    if (has_weight(child(at, kQueries)) && !is_cross(at)) found_.queries = true;
    if (const ModuleId latent = child(at, kLatents); has_weight(latent)) {
      const std::uint64_t size = out_size(latent);
      return add(at, size != 0 ? size : sizes_.latent);
    }
    if (const ModelTensor* fused = tensor(at, "in_proj_weight");
        fused != nullptr && fused->shape.size() == 2) {
      return add(at, fused->shape[0] / 3 * 2);  // torch.nn.MultiheadAttention
    }
    if (const ModuleId fused = child(at, kFused); has_weight(fused)) {
      found_.fused = true;
      if (const auto size = keys_in(fused, at)) add(at, *size);
      return;
    }
    if (const ModuleId both = child(at, kKeyValues); has_weight(both)) {
      return add(at, out_size(both));
    }
    const ModuleId key = child(at, kKeys);
    if (!has_weight(key)) return;
    const ModuleId value = child(at, kValues);
    const std::uint64_t key_size = out_size(key);
    // An indexer has keys alone; where attention has no values of its own, they are the keys.
    const bool keys_alone = last_of(tree_.modules[at].name).find("index") != std::string_view::npos;
    const std::uint64_t value_size = has_weight(value) ? out_size(value)
                                     : keys_alone      ? 0
                                                       : key_size;
    const bool known = key_size != 0 && (value_size != 0 || keys_alone);
    add(at, known ? key_size + value_size : 0);
  }

  // Keys and values among the rows of a fused projection: what is not queries, of which there are
  // as many as the output projection takes. 0: the shapes do not tell. Nothing: it has queries
  // alone, and attends to what an earlier layer keeps.
  std::optional<std::uint64_t> keys_in(ModuleId fused, ModuleId mixer) {
    found_.queries = found_.queries || !is_cross(mixer);
    is_turned_ = last_of(tree_.modules[fused].name) == "c_attn";  // GPT-2's Conv1D
    const std::uint64_t rows = out_size(fused);
    is_turned_ = false;
    if (rows == 0) return 0;
    const std::uint64_t by_config = sizes_.heads * sizes_.head_dim;
    const bool uneven = sizes_.value_dim != 0 && sizes_.value_dim != sizes_.head_dim;
    std::uint64_t queries = uneven ? 0 : in_size(child(mixer, kOutputs));
    if (queries == 0 || queries >= rows) queries = by_config;
    if (is_cross(mixer) && child(mixer, kQueries) != kNone) return rows;  // c_attn beside q_attn
    if (queries == rows) return std::nullopt;
    return queries > 0 && queries < rows ? rows - queries : 0;
  }

  void scan_recurrence(ModuleId at) {
    found_.recurrent = true;
    const std::uint64_t conv = depthwise_elements(at);
    found_.state_bytes += conv * element_bytes_;
    const ModelTensor* decay = tensor(at, "A_log");
    if (decay == nullptr) decay = tensor(at, "A");
    const std::uint64_t inner = in_size(child(at, kOutputs));
    if (decay != nullptr && decay->shape.size() == 2 && decay->shape[1] > 1) {
      found_.state_bytes += 4 * decay->shape[0] * decay->shape[1];  // Mamba 1
    } else if (decay != nullptr && tensor(at, "D") != nullptr) {
      add_state_space(at, inner);
    } else if (decay != nullptr || child(at, kKeys) != kNone || tensor(at, "dt_bias") != nullptr) {
      add_linear_attention(at, inner, decay == nullptr ? 0 : decay->elements());
    } else if (conv == 0 || is_gated(at)) {
      found_.state_told = false;  // a convolution alone has been counted
    }
  }

  // DeepSeek-V4 makes an entry of several positions, and has a bias for each of these. Until there
  // are as many, their keys and gates wait; of the last entry some may count once more.
  void scan_compressor(ModuleId at) {
    const ModelTensor* bias = tensor(at, "position_bias");
    if (bias == nullptr) bias = tensor(at, "ape");
    if (bias == nullptr || bias->shape.size() != 2) return;
    found_.compresses = true;
    found_.state_bytes += (2 * bias->shape[0] + 1) * bias->shape[1] * element_bytes_;
  }

  // Whether a recurrence stands beside the convolution.
  bool is_gated(ModuleId at) const {
    return std::ranges::any_of(tree_.modules[at].children, [&](ModuleId id) {
      const std::string_view name = last_of(tree_.modules[id].name);
      return name == "rg_lru" || name == "dt_proj" || name == "x_proj" || name == "f_proj";
    });
  }

  // Mamba 2: a state of `state_dim` for each inner channel. The convolution runs over the channels
  // and over twice the groups times that dimension.
  void add_state_space(ModuleId at, std::uint64_t inner) {
    const std::uint64_t channels = depthwise_channels(at);
    if (inner == 0 || channels <= inner) {
      found_.state_told = false;
      return;
    }
    const std::uint64_t both = (channels - inner) / 2;  // groups x dimension
    std::uint64_t dim = sizes_.state_groups > 0 ? both / sizes_.state_groups : sizes_.state_dim;
    if (dim == 0) {
      dim = both;
      found_.state_guessed = true;
    }
    found_.state_bytes += 4 * inner * dim;
  }

  // Gated delta rules and their like: a matrix of key x value for each head.
  void add_linear_attention(ModuleId at, std::uint64_t inner, std::uint64_t heads) {
    const ModuleId key = child(at, kKeys);
    const ModuleId value = child(at, kValues);
    const std::uint64_t values = has_weight(value) ? out_size(value) : inner;
    std::uint64_t key_dim = sizes_.linear_key_dim;
    const std::uint64_t channels = depthwise_channels(at);
    const std::uint64_t keys = has_weight(key)     ? out_size(key)
                               : channels > values ? (channels - values) / 2
                                                   : 0;
    if (sizes_.linear_key_heads > 0 && keys > 0) key_dim = keys / sizes_.linear_key_heads;
    if (key_dim == 0 && has_weight(key) && heads > 0) key_dim = keys / heads;
    if (key_dim == 0 && has_weight(key) && sizes_.heads > 0) key_dim = keys / sizes_.heads;
    if (key_dim == 0 && keys > 0) {
      key_dim = heads > 0 ? std::min(keys, values / heads) : keys;  // as wide as values; one head
      found_.state_guessed = true;
    }
    if (values == 0 || key_dim == 0) {
      found_.state_told = false;
      return;
    }
    found_.state_bytes += 4 * values * key_dim;
  }

  const ModelTree& tree_;
  const ModelSizes& sizes_;
  std::uint64_t element_bytes_;
  std::size_t front_ = 0;   // length of the block's name
  bool is_turned_ = false;  // the weight looked at may be stored as [in, out]
  BlockFound found_;
};

}  // namespace

ModelSizes told_sizes(const TextKeys& keys, std::uint64_t hidden) {
  ModelSizes sizes;
  sizes.hidden = hidden;
  sizes.heads = keys.count(keys::kHeads).value_or(0);
  sizes.kv_heads = keys.count(keys::kKvHeads).value_or(sizes.heads);
  sizes.head_dim = keys.count(keys::kHeadDim).value_or(0);
  if (sizes.head_dim == 0 && sizes.heads != 0) sizes.head_dim = hidden / sizes.heads;
  sizes.value_dim = keys.whole("v_head_dim").value_or(sizes.head_dim);
  const std::uint64_t rank = keys.whole("kv_lora_rank").value_or(0);
  sizes.latent = rank == 0 ? 0 : rank + keys.whole("qk_rope_head_dim").value_or(0);
  sizes.linear_key_dim = keys.whole(kLinearKeyDim).value_or(0);
  sizes.linear_key_heads = keys.whole(kLinearKeyHeads).value_or(0);
  sizes.state_dim = keys.whole(kStateDim).value_or(0);
  sizes.state_groups = keys.whole(kStateGroups).value_or(0);
  return sizes;
}

BlockFound scan_block(const ModelTree& tree, ModuleId block, const ModelSizes& sizes,
                      std::uint64_t element_bytes) {
  return Scan(tree, sizes, element_bytes).run(block);
}

}  // namespace berth
