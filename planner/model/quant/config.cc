// Reads `quantization_config` into rules, with one function for each method. It takes what the
// readers of transformers and vLLM accept.

#include <algorithm>
#include <set>

#include "berth/error.h"
#include "planner/base/position.h"
#include "planner/base/quote.h"
#include "planner/model/quant/decoding.h"
#include "planner/model/quant/quantization.h"

namespace berth {
namespace {

const std::string kRoot = "quantization_config.";
constexpr std::int64_t kLargestGroup = std::int64_t{1} << 32;

class QuantizationReader {
 public:
  QuantizationReader(const ModelConfig& config, const DTypesByName& fp8_dtypes)
      : config_(config), fp8_dtypes_(fp8_dtypes) {
    model_dtype_ = parse_torch_dtype(config.text("dtype").value_or("")).value_or(DType::kF32);
  }

  Quantization read() {
    out_.present = !config_.keys(kRoot).empty();
    if (is_mlx()) {
      out_.present = true;
      out_.method = "MLX " + std::to_string(mlx_bits()) + "-bit";
      return std::move(out_);
    }
    if (!out_.present) return std::move(out_);
    out_.method = config_.text(kRoot + "quant_method").value_or("");
    std::string method = out_.method;
    std::ranges::replace(method, '_', '-');
    const bool bits = flag("load_in_4bit") || flag("load_in_8bit");
    out_.known = true;
    if (method == "fp8") {
      fp8();
    } else if (method == "fbgemm-fp8") {
      fbgemm_fp8();
    } else if (method == "compressed-tensors") {
      compressed_tensors();
    } else if (method == "gptq") {
      gptq();
    } else if (method == "awq") {
      awq();
    } else if (method == "auto-round" || method == "intel/auto-round") {
      auto_round();
    } else if (method == "bitsandbytes" || (method.empty() && bits)) {
      bitsandbytes();
    } else if (method == "mxfp4") {
      mxfp4();
    } else if (method == "modelopt" || method == "modelopt-fp4") {
      modelopt();
    } else {
      out_.known = false;
    }
    if (!out_.known) out_.rules.clear();
    if (out_.undecodable.empty()) out_.undecodable = rotation_problem(config_);
    return std::move(out_);
  }

 private:
  // Apple's MLX writes the key `quantization`, and newer versions the same as
  // `quantization_config`; neither has a quant_method.
  bool is_mlx() const {
    if (config_.has("quantization.group_size")) return true;
    const auto has = [this](const char* key) { return config_.has(kRoot + key); };
    const bool others = has("quant_method") || has("desc_act") || has("sym") || has("zero_point");
    return has("group_size") && has("bits") && !others;
  }
  std::int64_t mlx_bits() const {
    const auto bits = config_.integer("quantization.bits");
    return bits ? *bits : config_.integer(kRoot + "bits").value_or(4);
  }

  bool flag(const std::string& key) const { return config_.boolean(kRoot + key).value_or(false); }
  std::string word(const std::string& key) const { return lower_text(config_, kRoot + key); }

  [[noreturn]] void fail(const std::string& key, const std::string& what) const {
    throw Error(config_.position_of(key) + ": " + what);
  }

  unsigned bits(const std::string& key, unsigned otherwise,
                std::initializer_list<int> widths) const {
    const std::int64_t value = config_.integer(key).value_or(otherwise);
    if (std::ranges::find(widths, value) != widths.end()) return static_cast<unsigned>(value);
    fail(key, std::to_string(value) + " bits are not a width that this method has");
  }

  // Turns -1, which means all inputs, into 0.
  std::uint64_t group(const std::string& key, std::int64_t otherwise) const {
    const std::int64_t value = config_.integer(key).value_or(otherwise);
    if (value == -1) return 0;
    if (value < 1 || value > kLargestGroup) {
      fail(key, std::to_string(value) + " is not a group size");
    }
    return static_cast<std::uint64_t>(value);
  }

  // Adds the names under `key` to `patterns`; returns false if there is no such list.
  bool names(const std::string& key, ModulePatterns& patterns, bool globs = false) const {
    const auto* list = config_.find_list(kRoot + key);
    if (list == nullptr) return false;
    const auto position = [&] { return config_.source() + ": " + kRoot + key; };
    for (const ModelConfig::Value& value : *list) {
      const auto* name = std::get_if<std::string>(&value);
      if (name == nullptr) fail(kRoot + key, "not a list of names");
      with_position(position, [&] { globs ? patterns.add_glob(*name) : patterns.add(*name); });
    }
    return true;
  }

  DType floating() const { return is_convertible(model_dtype_) ? model_dtype_ : DType::kBF16; }

  void add_rule(QuantScheme scheme) { out_.rules.emplace_back().scheme = std::move(scheme); }

  void fp8() {
    QuantScheme scheme;
    const auto* block = config_.find_list(kRoot + "weight_block_size");
    const bool named = names("modules_to_not_convert", out_.skipped);
    const bool fixed = word("activation_scheme") == "static";
    if (block != nullptr) {
      scheme.grain = ScaleGrain::kTile;
      scheme.scale_name = "_scale_inv";
      const auto found = fp8_dtypes_.find("weight_scale_inv");
      if (found != fp8_dtypes_.end()) scheme.scales = found->second;
      scheme.block_rows = block_size(*block, 0);
      scheme.group = block_size(*block, 1);
      if (fixed) scheme.input_scale = "activation_scale";
    } else if (named) {  // transformers' own; the whole weight has one scale
      scheme.grain = ScaleGrain::kTensor;
      scheme.scale_name = "_scale_inv";
      scheme.scales = floating();
      if (fixed) scheme.input_scale = "activation_scale";
    } else {  // AutoFP8's
      scheme.grain = ScaleGrain::kTensor;
      if (fixed) scheme.input_scale = "input_scale";
    }
    out_.skips_head = !names("ignored_layers", out_.skipped) && !named;
    out_.dtypes = fp8_dtypes_;
    add_rule(scheme);
    // DeepSeek-V4 may pack its experts in FP4, and says so here or beside the other settings.
    std::string experts = word("expert_dtype");
    if (experts.empty()) experts = config_.text("expert_dtype").value_or("fp8");
    out_.known = experts == "fp8";
  }

  std::uint64_t block_size(const std::vector<ModelConfig::Value>& list, std::size_t at) const {
    const auto* size = at < list.size() ? std::get_if<std::int64_t>(&list[at]) : nullptr;
    if (list.size() != 2 || size == nullptr || *size < 1 || *size > kLargestGroup) {
      fail(kRoot + "weight_block_size", "not two sizes");
    }
    return static_cast<std::uint64_t>(*size);
  }

  void fbgemm_fp8() {
    out_.skips_head = !names("modules_to_not_convert", out_.skipped);
    add_rule({});
  }

  void gptq() {
    out_.known = !flag("is_marlin_format");
    QuantScheme scheme;
    read_gptq_zeros(config_, out_);
    out_.in_order = gptq_inputs_in_order(config_);
    scheme.zeros = out_.zeros;
    scheme.symmetric = out_.symmetric;
    scheme.format = QuantFormat::kGptq;
    if (!config_.has(kRoot + "bits")) out_.missing = "bits";  // no reader has a default
    scheme.bits = bits(kRoot + "bits", 4, {2, 3, 4, 8});
    scheme.group = group(kRoot + "group_size", 128);
    scheme.scales = DType::kF16;  // whatever the model's dtype
    scheme.input_order = true;
    names("modules_to_not_convert", out_.skipped);
    out_.blocks_only = out_.skips_head = !flag("lm_head");
    out_.conv1d = true;
    dynamic_rules(scheme);
    QuantRule rule;
    rule.scheme = scheme;
    // A list of lists; each names modules that are quantised together.
    for (const std::string& key : config_.keys(kRoot + "modules_in_block_to_quantize")) {
      names(key.substr(kRoot.size()), rule.targets);
    }
    rule.linears = rule.targets.empty();
    out_.rules.push_back(std::move(rule));
  }

  // GPTQModel's `dynamic`: "-:regex" leaves modules out; "+:regex" or "regex" gives them bits and
  // groups of their own.
  void dynamic_rules(const QuantScheme& base) {
    const std::string root = kRoot + "dynamic.";
    std::set<std::string> patterns;
    for (const std::string& key : config_.keys(root)) {
      const std::size_t dot = key.rfind('.');
      const std::string last = key.substr(dot + 1);
      const bool setting = last == "bits" || last == "group_size" || last == "sym" ||
                           last == "desc_act" || last == "mse";
      patterns.insert(setting && dot >= root.size() ? key.substr(0, dot) : key);
    }
    for (const std::string& key : patterns) {
      std::string pattern = key.substr(root.size());
      QuantRule rule;
      rule.scheme = base;
      rule.linears = false;
      rule.plain = pattern.starts_with("-:");
      if (rule.plain || pattern.starts_with("+:")) pattern = pattern.substr(2);
      rule.targets.add_pattern(pattern);
      rule.scheme.bits = bits(key + ".bits", base.bits, {2, 3, 4, 8});
      rule.scheme.group =
          group(key + ".group_size", base.group == 0 ? -1 : static_cast<std::int64_t>(base.group));
      if (const auto symmetric = said(config_, key + ".sym")) rule.scheme.symmetric = symmetric;
      out_.rules.push_back(std::move(rule));
    }
  }

  void awq() {
    const std::string version = word("version");
    QuantScheme scheme;
    scheme.format = version == "gemv" ? QuantFormat::kAwqGemv : QuantFormat::kAwq;
    out_.known = version.empty() || version == "gemm" || version == "gemv" || version == "exllama";
    scheme.bits = bits(kRoot + (config_.has(kRoot + "w_bit") ? "w_bit" : "bits"), 4, {4});
    scheme.group =
        group(kRoot + (config_.has(kRoot + "q_group_size") ? "q_group_size" : "group_size"), 128);
    scheme.scales = DType::kF16;  // whatever the model's dtype
    names("modules_to_not_convert", out_.skipped);
    out_.skips_head = true;
    add_rule(scheme);
  }

  // AutoRound writes GPTQ's layout (without g_idx) or AWQ's. Its own name for GPTQ's, and that of
  // GPTQModel, mean zero points that are stored as they are (auto-round 0.16,
  // inference/backend.py).
  void auto_round() {
    const std::string packing = word("packing_format");
    const auto is_one_of = [&](std::initializer_list<const char*> names) {
      return std::ranges::find(names, packing) != names.end();
    };
    if (packing.find("awq") != packing.npos) {
      awq();
    } else {
      gptq();
      const bool as_they_are = is_one_of({"auto_round", "auto_round:gptqmodel"});
      out_.zeros = as_they_are ? ZeroPoints::kAsTheyAre : ZeroPoints::kLessOne;
      for (QuantRule& rule : out_.rules) {
        rule.scheme.input_order = false;
        rule.scheme.zeros = out_.zeros;
      }
      out_.known = as_they_are || packing.empty() ||
                   is_one_of({"auto", "auto_round:gptq", "auto_round:auto_gptq"});
    }
    if (!config_.keys(kRoot + "extra_config.").empty())
      out_.known = false;  // each layer has its own settings
  }

  void bitsandbytes() {
    QuantScheme scheme;
    scheme.format = flag("load_in_4bit") ? QuantFormat::kBnb4 : QuantFormat::kBnb8;
    scheme.bits = flag("load_in_4bit") ? 4 : 8;
    scheme.nested = flag("bnb_4bit_use_double_quant");
    scheme.quant_type = word("bnb_4bit_quant_type") == "nf4" ? "nf4" : "fp4";
    scheme.compute = torch_dtype_name(model_dtype_);
    scheme.weight = parse_torch_dtype(word("bnb_4bit_quant_storage")).value_or(DType::kU8);
    out_.skips_head = !names("llm_int8_skip_modules", out_.skipped);
    out_.conv1d = true;
    add_rule(scheme);
  }

  void mxfp4() {
    names("modules_to_not_convert", out_.skipped);
    QuantScheme scheme;
    scheme.format = QuantFormat::kMxfp4;
    scheme.bits = 4;
    add_rule(scheme);
  }

  void modelopt() {
    const std::string algorithm = word("quant_algo");
    QuantScheme scheme;
    scheme.input_scale = "input_scale";
    if (algorithm == "fp8") {
      scheme.grain = ScaleGrain::kTensor;
    } else if (algorithm == "nvfp4") {
      scheme.format = QuantFormat::kModelOptFp4;
      scheme.bits = 4;
      scheme.scales = DType::kF8E4M3;
      scheme.group = 16;
    } else {
      out_.known = false;
    }
    names("ignore", out_.skipped, true);
    names("exclude_modules", out_.skipped, true);
    add_rule(scheme);
  }

  void compressed_tensors() {
    names("ignore", out_.skipped);
    const std::string root = kRoot + "config_groups.";
    std::set<std::string> groups;
    for (const std::string& key : config_.keys(root)) {
      groups.insert(key.substr(0, std::min(key.find('.', root.size()), key.size())) + ".");
    }
    for (const std::string& at : groups) compressed_group(at);
    out_.known = out_.known && !groups.empty();
  }

  void compressed_group(const std::string& at) {
    QuantRule rule;
    QuantScheme& scheme = rule.scheme;
    const bool floats = config_.text(at + "weights.type").value_or("int") == "float";
    scheme.bits = bits(at + "weights.num_bits", 8, {2, 3, 4, 5, 6, 7, 8});
    scheme.scales = floating();
    scheme.weight = floats ? DType::kF8E4M3 : DType::kI8;
    scheme.zero_points = !config_.boolean(at + "weights.symmetric").value_or(true);
    scheme.input_order = config_.text(at + "weights.actorder").value_or("") == "group";
    read_strategy(at + "weights.", scheme);
    const bool inputs = !config_.keys(at + "input_activations.").empty();
    const ModelConfig::Value* dynamic = config_.find(at + "input_activations.dynamic");
    if (inputs && (dynamic == nullptr || *dynamic == ModelConfig::Value(false))) {
      scheme.input_scale = "input_scale";
    }
    std::string format = config_.text(at + "format").value_or(word("format"));
    if (format.empty()) format = floats || inputs ? "naive-quantized" : "pack-quantized";
    if (format == "pack-quantized") {
      scheme.format = QuantFormat::kPacked;
      scheme.input_scale = "";
    } else if (format == "nvfp4-pack-quantized" || format == "mxfp4-pack-quantized") {
      const bool nv = format.starts_with("nv");
      scheme.format = QuantFormat::kPackedFloat;
      scheme.scales = nv ? DType::kF8E4M3 : DType::kU8;
      scheme.group = nv ? 16 : 32;
      scheme.input_scale = nv && inputs ? "input_global_scale" : "";
    } else if (format == "mxfp8-quantized") {
      scheme.scales = DType::kU8;
      scheme.group = 32;
      scheme.grain = ScaleGrain::kGroup;
    } else if (format != "float-quantized" && format != "int-quantized" &&
               format != "naive-quantized") {
      out_.known = false;  // sparse formats, and formats that are not known yet
    }
    rule.linears = false;
    for (const ModelConfig::Value& value : config_.list(at + "targets")) {
      const auto* name = std::get_if<std::string>(&value);
      if (name == nullptr) fail(at + "targets", "not a list of names");
      if (*name == "Linear") {
        rule.linears = true;
      } else if (*name == "Embedding") {
        rule.embeddings = true;
      } else {
        rule.targets.add(*name);
      }
    }
    out_.rules.push_back(std::move(rule));
  }

  void read_strategy(const std::string& at, QuantScheme& scheme) const {
    const std::string strategy =
        config_.text(at + "strategy").value_or(config_.has(at + "group_size") ? "group" : "tensor");
    if (strategy == "tensor") {
      scheme.grain = ScaleGrain::kTensor;
    } else if (strategy == "group" || strategy == "tensor_group") {
      scheme.grain = ScaleGrain::kGroup;
      scheme.group = group(at + "group_size", 128);
    } else if (strategy == "block") {
      const std::vector<ModelConfig::Value> sizes = config_.list(at + "block_structure");
      scheme.grain = ScaleGrain::kTile;
      scheme.block_rows = block_size(sizes, 0);
      scheme.group = block_size(sizes, 1);
    }
  }

  const ModelConfig& config_;
  const DTypesByName& fp8_dtypes_;
  DType model_dtype_ = DType::kF32;
  Quantization out_;
};

}  // namespace

Quantization read_quantization(const ModelConfig& config, const DTypesByName& fp8_dtypes) {
  return QuantizationReader(config, fp8_dtypes).read();
}

}  // namespace berth
