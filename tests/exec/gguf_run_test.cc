// The same model twice: made in memory, and written as GGUF as llama.cpp's converter does it.
// Loaded from the file, it has the same weights and computes the same logits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>

#include "berth/loader.h"
#include "berth/planner.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/tree/config.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/generate/executor.h"
#include "runtime/load/environment.h"
#include "tests/model/gguf_writer.h"
#include "tests/program/made_model.h"

namespace berth::testing {
namespace {

using Values = std::vector<float>;

struct Rename {
  std::string ours;    // regular expression of a name in transformers
  std::string theirs;  // the name in GGUF
};

// A family as a GGUF file has it.
struct Family {
  std::string name;  // folder in data/
  std::string architecture;
  // Regex and replacement: changes to config.json that leave in it what GGUF can say.
  std::vector<std::pair<std::string, std::string>> config;
  std::vector<Rename> names;
  bool interleaved = false;  // rotary rows
  bool transposed = false;   // Conv1D
  bool plus_one = false;     // norms
};

const std::vector<Rename> kLlamaNames = {
    {"model\\.embed_tokens\\.", "token_embd."},
    {"model\\.norm\\.", "output_norm."},
    {"lm_head\\.", "output."},
    {"model\\.layers\\.(\\d+)\\.input_layernorm\\.", "blk.$1.attn_norm."},
    {"model\\.layers\\.(\\d+)\\.post_attention_layernorm\\.", "blk.$1.ffn_norm."},
    {"model\\.layers\\.(\\d+)\\.self_attn\\.([qkv])_proj\\.", "blk.$1.attn_$2."},
    {"model\\.layers\\.(\\d+)\\.self_attn\\.([qk])_norm\\.", "blk.$1.attn_$2_norm."},
    {"model\\.layers\\.(\\d+)\\.self_attn\\.qkv_proj\\.", "blk.$1.attn_qkv."},
    {"model\\.layers\\.(\\d+)\\.self_attn\\.o_proj\\.", "blk.$1.attn_output."},
    {"model\\.layers\\.(\\d+)\\.mlp\\.(gate|up|down)_proj\\.", "blk.$1.ffn_$2."},
    {"model\\.layers\\.(\\d+)\\.mlp\\.gate_up_proj\\.", "blk.$1.ffn_up."},
    {"model\\.layers\\.(\\d+)\\.mlp\\.gate\\.", "blk.$1.ffn_gate_inp."},
    {"model\\.layers\\.(\\d+)\\.mlp\\.shared_expert_gate\\.", "blk.$1.ffn_gate_inp_shexp."},
    {"model\\.layers\\.(\\d+)\\.mlp\\.shared_expert\\.(gate|up|down)_proj\\.",
     "blk.$1.ffn_$2_shexp."}};

std::vector<Rename> gemma2_names() {
  std::vector<Rename> names = kLlamaNames;
  names[4] = {"model\\.layers\\.(\\d+)\\.post_attention_layernorm\\.",
              "blk.$1.post_attention_norm."};
  names.push_back({"model\\.layers\\.(\\d+)\\.pre_feedforward_layernorm\\.", "blk.$1.ffn_norm."});
  names.push_back(
      {"model\\.layers\\.(\\d+)\\.post_feedforward_layernorm\\.", "blk.$1.post_ffw_norm."});
  return names;
}

const std::vector<Rename> kGpt2Names = {
    {"transformer\\.wte\\.", "token_embd."},
    {"transformer\\.wpe\\.", "position_embd."},
    {"transformer\\.ln_f\\.", "output_norm."},
    {"transformer\\.h\\.(\\d+)\\.ln_1\\.", "blk.$1.attn_norm."},
    {"transformer\\.h\\.(\\d+)\\.ln_2\\.", "blk.$1.ffn_norm."},
    {"transformer\\.h\\.(\\d+)\\.attn\\.c_attn\\.", "blk.$1.attn_qkv."},
    {"transformer\\.h\\.(\\d+)\\.attn\\.c_proj\\.", "blk.$1.attn_output."},
    {"transformer\\.h\\.(\\d+)\\.mlp\\.c_fc\\.", "blk.$1.ffn_up."},
    {"transformer\\.h\\.(\\d+)\\.mlp\\.c_proj\\.", "blk.$1.ffn_down."}};

// The configs of the made models ask for some things that GGUF has no keys for; these are taken
// out.
const std::vector<Family> kFamilies = {
    {"llama", "llama", {}, kLlamaNames, true},
    {"llama3",
     "llama",
     {{"\"original_max_position_embeddings\": 16", "\"original_max_position_embeddings\": 8192"},
      {"\"rope_theta\": 10000.0", "\"rope_theta\": 500000.0"}},
     kLlamaNames,
     true},
    {"mistral",
     "llama",
     {{"\"sliding_window\": 5", "\"sliding_window\": null"}},
     kLlamaNames,
     true},
    {"mixtral", "llama", {}, kLlamaNames, true},
    {"qwen2",
     "qwen2",
     {{"\"use_sliding_window\": true", "\"use_sliding_window\": false"},
      {"\"layer_types\": \\[[^\\]]*\\]", "\"use_cache\": true"}},
     kLlamaNames},
    {"qwen3", "qwen3", {}, kLlamaNames},
    {"qwen2_moe",
     "qwen2moe",
     {{"\"use_sliding_window\": true", "\"use_sliding_window\": false"},
      {"\"layer_types\": \\[[^\\]]*\\]", "\"use_cache\": true"},
      {"\"mlp_only_layers\": \\[[^\\]]*\\]", "\"mlp_only_layers\": []"}},
     kLlamaNames},
    {"qwen3_moe",
     "qwen3moe",
     {{"\"attention_bias\": true", "\"attention_bias\": false"},
      {"\"decoder_sparse_step\": 2", "\"decoder_sparse_step\": 1"}},
     kLlamaNames},
    {"phi3", "phi3", {}, kLlamaNames},
    {"gemma",
     "gemma",
     {{"\"attention_bias\": true", "\"attention_bias\": false"}},
     kLlamaNames,
     false,
     false,
     true},
    {"gemma3_older",
     "gemma3",
     {{"\"rope_local_base_freq\": 80.0", "\"query_pre_attn_scalar\": 8"}},
     gemma2_names(),
     false,
     false,
     true},
    {"gemma2",
     "gemma2",
     {{"\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 16"}},
     gemma2_names(),
     false,
     false,
     true},
    {"gpt2",
     "gpt2",
     {{"\"scale_attn_by_inverse_layer_idx\": true", "\"scale_attn_by_inverse_layer_idx\": false"}},
     kGpt2Names,
     false,
     true}};

Model made(const Family& family) {
  const auto path =
      std::filesystem::path(BERTH_SOURCE_DIR) / "tests/exec/data" / family.name / "config.json";
  std::ifstream in(path);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  for (const auto& [from, to] : family.config) {
    const std::string changed = std::regex_replace(text, std::regex(from), to);
    EXPECT_NE(changed, text) << from;
    text = changed;
  }
  Model model;
  model.path = path;
  Skeleton skeleton = build_skeleton(ModelConfig::parse(text, path.string()), std::nullopt);
  model.config = skeleton.config;
  model.tree =
      join_model_tree(std::move(skeleton), family.name, nullptr, std::nullopt, Dequantize::kNo);
  return model;
}

Values values_of(const ModelTensor& tensor) {
  Values values(tensor.elements());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = made_weight(std::string(tensor.name), i);
  return values;
}

// Interleaves rows: row r of a head of `size` rows goes to 2 r in the first half, and to 2 (r -
// half) + 1 in the second.
Values interleaved(const Values& values, std::size_t row, std::size_t size) {
  Values out(values.size());
  for (std::size_t i = 0; i < values.size() / row; ++i) {
    const std::size_t head = i / size * size, r = i % size, half = size / 2;
    const std::size_t to = head + (r < half ? 2 * r : 2 * (r - half) + 1);
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(i * row), row,
                out.begin() + static_cast<std::ptrdiff_t>(to * row));
  }
  return out;
}

Values transposed(const Values& values, std::size_t rows, std::size_t columns) {
  Values out(values.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) out[c * rows + r] = values[r * columns + c];
  }
  return out;
}

void write_experts(const ModelConfig& config, const std::string& arch, GgufWriter& file) {
  const auto copy = [&](const char* theirs, const char* ours) {
    const auto value = config.integer(ours);
    if (value) file.u32(arch + theirs, static_cast<std::uint32_t>(*value));
    return value.has_value();
  };
  if (!copy("expert_count", "num_local_experts") && !copy("expert_count", "num_experts")) return;
  copy("expert_used_count", "num_experts_per_tok");
  copy("expert_feed_forward_length", "moe_intermediate_size");
  copy("expert_shared_feed_forward_length", "shared_expert_intermediate_size");
}

void write_metadata(const Family& family, const ModelConfig& config, std::size_t head_size,
                    GgufWriter& file) {
  const std::string arch = family.architecture + ".";
  const auto integer = [&](const char* key, const char* other) {
    const auto value = config.integer(key);
    return static_cast<std::uint32_t>(value ? *value : config.require_integer(other));
  };
  file.text("general.architecture", family.architecture);
  const std::uint32_t hidden = integer("n_embd", "hidden_size");
  file.u32(arch + "embedding_length", hidden);
  file.u32(arch + "block_count", integer("n_layer", "num_hidden_layers"));
  file.u32(arch + "context_length", integer("n_positions", "max_position_embeddings"));
  file.u32(arch + "feed_forward_length",
           family.name == "gpt2" ? 4 * hidden : integer("intermediate_size", "intermediate_size"));
  file.u32(arch + "attention.head_count", integer("n_head", "num_attention_heads"));
  if (family.name == "gpt2") return;
  file.u32(arch + "attention.head_count_kv", integer("num_key_value_heads", ""));
  file.u32(arch + "attention.key_length", static_cast<std::uint32_t>(head_size));
  file.u32(arch + "rope.dimension_count",
           static_cast<std::uint32_t>(
               static_cast<double>(head_size) *
               config.number("rope_parameters.partial_rotary_factor").value_or(1)));
  // Of Gemma 3, those of the layers that see all positions; its converter knows no others.
  const std::string rope =
      family.architecture == "gemma3" ? "rope_parameters.full_attention." : "rope_parameters.";
  const auto theta = config.number(rope + "rope_theta");
  file.f32(arch + "rope.freq_base",
           static_cast<float>(theta ? *theta : config.require_number("rope_theta")));
  // The families' own defaults of transformers, which these configs rely on.
  const bool large = family.name == "phi3" || family.name == "mixtral";
  file.f32(arch + "attention.layer_norm_rms_epsilon", large ? 1e-5F : 1e-6F);
  for (const char* scaling : {"rope_parameters.", "rope_scaling."}) {
    if (config.text(std::string(scaling) + "rope_type") != "linear") continue;
    file.text(arch + "rope.scaling.type", "linear");
    file.f32(arch + "rope.scaling.factor",
             static_cast<float>(config.require_number(std::string(scaling) + "factor")));
    break;
  }
  if (const auto window = config.integer("sliding_window")) {
    file.u32(arch + "attention.sliding_window", static_cast<std::uint32_t>(*window));
  }
  if (const auto pattern = config.integer("sliding_window_pattern")) {
    file.u32(arch + "attention.sliding_window_pattern", static_cast<std::uint32_t>(*pattern));
  }
  write_experts(config, arch, file);
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (const auto cap = config.number(key)) file.f32(arch + key, static_cast<float>(*cap));
  }
}

// How llama.cpp stores llama3's scaling: the number that each frequency is divided by.
Values llama3_divisors(const ModelConfig& config, std::size_t head_size) {
  const double factor = *config.number("rope_parameters.factor");
  const double base = *config.number("rope_parameters.rope_theta");
  const double context = *config.number("rope_parameters.original_max_position_embeddings");
  Values divisors;
  for (std::size_t i = 0; i < head_size; i += 2) {
    const double wave =
        2 * M_PI * std::pow(base, static_cast<double>(i) / static_cast<double>(head_size));
    const double smooth = (context / wave - 1) / 3;
    divisors.push_back(static_cast<float>(wave < context / 4 ? 1
                                          : wave > context   ? factor
                                                           : 1 / ((1 - smooth) / factor + smooth)));
  }
  return divisors;
}

void write_gguf(const Family& family, const Model& model, const std::filesystem::path& path) {
  GgufWriter file;
  const ModelConfig& config = *model.config;
  const std::size_t head_size = static_cast<std::size_t>(config.integer("head_dim").value_or(8));
  write_metadata(family, config, head_size, file);
  if (config.text("rope_parameters.rope_type") == "llama3") {
    const Values divisors = llama3_divisors(config, head_size);
    file.floats("rope_freqs.weight", {divisors.size()}, divisors);
  }
  std::map<std::string, std::pair<std::vector<std::uint64_t>, Values>> experts;
  const std::regex expert("model\\.layers\\.(\\d+)\\.mlp\\.experts\\.(\\d+)\\.(\\w+)\\.weight");
  const std::map<std::string, std::string> kinds{{"w1", "gate"},        {"w2", "down"},
                                                 {"w3", "up"},          {"gate_proj", "gate"},
                                                 {"down_proj", "down"}, {"up_proj", "up"}};
  for (const ModelTensor& tensor : model.tree.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    std::vector<std::uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
    Values values = values_of(tensor);
    std::string name(tensor.name);
    std::smatch match;
    if (std::regex_match(name, match, expert)) {
      auto& [all_shape, all] =
          experts["blk." + match[1].str() + ".ffn_" + kinds.at(match[3]) + "_exps.weight"];
      all_shape = {all_shape.empty() ? 1 : all_shape[0] + 1, shape[0], shape[1]};
      all.insert(all.end(), values.begin(), values.end());
      continue;
    }
    for (const Rename& rename : family.names) {
      name = std::regex_replace(name, std::regex("^" + rename.ours), rename.theirs);
    }
    ASSERT_NE(name, tensor.name);
    const bool rotary = name.find("attn_q.") != name.npos || name.find("attn_k.") != name.npos;
    if (family.interleaved && rotary) {
      values = interleaved(values, shape.size() > 1 ? shape[1] : 1, head_size);
    }
    if (family.transposed && shape.size() == 2 && name.starts_with("blk.")) {
      values = transposed(values, shape[0], shape[1]);
      std::swap(shape[0], shape[1]);
    }
    if (name.ends_with("ffn_gate_inp_shexp.weight")) shape.erase(shape.begin());  // one row
    if (family.plus_one && name.find("norm.") != name.npos) {
      for (float& value : values) value += 1;
    }
    file.floats(name, shape, values);
  }
  for (const auto& [name, stacked] : experts) file.floats(name, stacked.first, stacked.second);
  file.write(path);
}

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "berth-gguf-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Gives each tensor another device in turn, so that every way of loading is taken.
std::uint32_t by_turns(const ModelTensor&, TensorId id) { return id % 4; }

class GgufRun : public ::testing::TestWithParam<Family> {};

TEST_P(GgufRun, HoldsTheSameWeightsAndComputesTheSame) {
  const Family& family = GetParam();
  const Folder folder;
  const auto path = folder / "model.gguf";
  const Model reference = made(family);
  write_gguf(family, reference, path);
  const Model model = open_model(path, std::nullopt);
  ASSERT_EQ(model.tree.tensors.size(), reference.tree.tensors.size());

  Plan plan = made_plan(model.tree, by_turns);
  for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
  LoadOptions load_options;
  load_options.emulate = true;
  const auto loaded = load(model, plan, load_options, LoadEnvironment{});
  for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    ASSERT_EQ(tensor.name, reference.tree.tensors[id].name);
    ASSERT_TRUE(tensor.shape == reference.tree.tensors[id].shape) << tensor.name;
    Values expected = values_of(tensor);
    const bool shifted = family.plus_one && tensor.name.find("norm") != std::string::npos;
    for (float& value : expected) value = shifted ? value + 1 - 1 : value;
    Values values(expected.size());
    const void* data = loaded->tensor(id).data;
    const HostBlock block = data ? HostBlock{} : loaded->fetch(id);
    std::memcpy(values.data(), data ? data : block.data.get(), values.size() * sizeof(float));
    EXPECT_EQ(values, expected) << tensor.name;
  }

  const Plan reference_plan = made_plan(reference.tree, [](const auto&, TensorId) { return kCpu; });
  const MadeLoad made_load(reference.tree, reference_plan);
  const Expected expected = read_expected(family.name);
  RunOptions options;
  options.prompt_ids = {expected.prompt};
  options.new_tokens = 3;
  options.stop_at_end_of_text = false;
  options.open_reference = [] { return &make_reference_decoder; };
  options.logits_file = folder / "made.safetensors";
  run(reference, reference_plan, made_load, options);
  options.logits_file = folder / "gguf.safetensors";
  run(model, plan, *loaded, options);
  const auto wanted = read_logits(folder / "made.safetensors");
  const auto got = read_logits(folder / "gguf.safetensors");
  ASSERT_EQ(got.size(), expected.prompt.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_THAT(got[i], ::testing::Pointwise(::testing::FloatNear(1e-5F), wanted[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GgufRun, ::testing::ValuesIn(kFamilies),
                         [](const auto& family) { return family.param.name; });

}  // namespace
}  // namespace berth::testing
