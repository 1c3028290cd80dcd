#include "tests/quant/quantized_forms.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <tuple>

#include "cuda/cast.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "runtime/quant/float_format.h"
#include "tests/model/quantized_layers.h"

namespace berth::test {
namespace {

Form llama(const std::string& name, const std::string& quantization, const Layer& layer) {
  return {name, small_config(quantization), small_tensors(layer)};
}

// Experts in MXFP4, as gpt-oss has them.
Form gpt_oss() {
  Form form;
  form.name = "Mxfp4";
  form.config = R"({"model_type":"gpt_oss","hidden_size":64,"intermediate_size":512,
      "num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":32,
      "num_local_experts":3,"num_experts_per_tok":2,"vocab_size":16,"rope_parameters":{"rope_type":"default","rope_theta":150000.0},"dtype":"bfloat16",
      "quantization_config":{"quant_method":"mxfp4","modules_to_not_convert":["lm_head"]}})";
  const auto add = [&](const std::string& name, const Shape& shape, DType dtype = DType::kBF16) {
    form.tensors.push_back({name, dtype, shape});
  };
  add("model.embed_tokens.weight", {16, 64});
  add("model.norm.weight", {64});
  add("lm_head.weight", {16, 64});
  const std::string at = "model.layers.0.";
  add(at + "input_layernorm.weight", {64});
  add(at + "post_attention_layernorm.weight", {64});
  add(at + "self_attn.sinks", {2});
  for (const auto& [name, out, in] : {std::tuple("q_proj", 64, 64), std::tuple("k_proj", 32, 64),
                                      std::tuple("v_proj", 32, 64), std::tuple("o_proj", 64, 64)}) {
    const auto rows = static_cast<std::uint64_t>(out);
    add(at + "self_attn." + name + ".weight", {rows, static_cast<std::uint64_t>(in)});
    add(at + "self_attn." + name + ".bias", {rows});
  }
  add(at + "mlp.router.weight", {3, 64});
  add(at + "mlp.router.bias", {3});
  const std::string experts = at + "mlp.experts.";
  add(experts + "gate_up_proj_bias", {3, 1024});
  add(experts + "gate_up_proj_blocks", {3, 1024, 2, 16}, DType::kU8);
  add(experts + "gate_up_proj_scales", {3, 1024, 2}, DType::kU8);
  add(experts + "down_proj_bias", {3, 64});
  add(experts + "down_proj_blocks", {3, 64, 16, 16}, DType::kU8);
  add(experts + "down_proj_scales", {3, 64, 16}, DType::kU8);
  return form;
}

std::string compressed(const std::string& format, const std::string& weights) {
  return R"({"quant_method":"compressed-tensors","format":")" + format +
         R"(","ignore":["lm_head"],"config_groups":{"group_0":{"targets":["Linear"],"weights":)" +
         weights + R"(,"input_activations":null}}})";
}

Layer mxfp4_layer() {
  return [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight_packed", DType::kU8, {out, in / 2}},
                                   {name + ".weight_scale", DType::kU8, {out, in / 32}}};
  };
}

// Scales have so few bits that their products with codes are exact in 16 bits, too: the references
// of some forms round them to that.
std::vector<float> floats(const TensorInfo& info, std::size_t count, Numbers numbers,
                          std::mt19937& random) {
  std::vector<float> values(count);
  std::uniform_real_distribution<float> small(0.001f, 0.1f), both(-0.5F, 0.5F), near_one(0.5F, 1);
  const auto has = [&](const char* what) { return info.name.find(what) != info.name.npos; };
  for (float& value : values) {
    if (numbers == Numbers::kAny) {
      value = small(random);
    } else if (has("scale")) {
      value = static_cast<float>(8 + random() % 8) / 4096;
    } else {
      value = has("norm") ? near_one(random) : both(random);
    }
  }
  return values;
}

bool is_fp8_code(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

// Contents of a stored tensor that make sense for its role: small positive floats, groups that
// exist, a text that bitsandbytes writes, and any bytes for the others.
std::vector<std::byte> contents(const Checkpoint& checkpoint, const TensorInfo& info, bool shuffled,
                                Numbers numbers, std::mt19937& random) {
  std::vector<std::byte> bytes(info.bytes());
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  if (is_convertible(info.dtype)) {
    const std::vector<float> values =
        floats(info, info.bytes() * 8 / dtype_bits(info.dtype), numbers, random);
    cast_reference(values.data(), FloatFormat::kF32, bytes.data(), float_format(info.dtype),
                   values.size());
  } else if (info.name.ends_with("g_idx")) {
    const bool gptq = info.name.ends_with(".g_idx");
    const std::string scales =
        info.name.substr(0, info.name.size() - (gptq ? 5 : 6)) + (gptq ? "scales" : "_scale");
    const auto found = std::ranges::find(checkpoint.tensors, scales, &TensorInfo::name);
    const auto groups = static_cast<std::uint32_t>(found->shape[gptq ? 0 : 1]);
    const auto count = static_cast<std::uint32_t>(bytes.size() / 4);
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto group =
          shuffled ? static_cast<std::uint32_t>(random() % groups) : i / (count / groups);
      std::memcpy(bytes.data() + 4 * i, &group, 4);
    }
  } else if (info.name.find("quant_state") != info.name.npos) {
    std::string text = R"({"quant_type": "nf4", "nested_offset": 0.04566267505288124})";
    text.resize(bytes.size(), ' ');
    std::memcpy(bytes.data(), text.data(), text.size());
  } else if (numbers == Numbers::kOrdinary && is_fp8_code(info.dtype)) {
    for (std::byte& byte : bytes) {  // the largest exponents have NaN
      if ((byte & std::byte{0x70}) == std::byte{0x70}) byte ^= std::byte{0x40};
    }
  } else if (numbers == Numbers::kOrdinary && info.name.find("_scale") != info.name.npos) {
    for (std::byte& byte : bytes) byte = std::byte{120} | (byte & std::byte{3});  // of E8M0
  }
  return bytes;
}

}  // namespace

std::vector<Form> quantized_forms() {
  return {
      llama("Fp8Blocks",
            R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]})",
            fp8_block_layer(DType::kF32)),
      llama("Int8",
            compressed("int-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})"),
            scaled_layer(DType::kI8, 1, DType::kBF16)),
      llama("Gptq", R"({"quant_method":"gptq","bits":4,"group_size":64,"desc_act":true})",
            gptq_layer(4, 64)),
      llama("Gptq2", R"({"quant_method":"gptq","bits":2,"group_size":32,"desc_act":false})",
            gptq_layer(2, 32)),
      llama("Awq", R"({"quant_method":"awq","bits":4,"group_size":64,"version":"gemm"})",
            awq_layer(64)),
      llama("Packed", compressed("pack-quantized", R"({"num_bits":4,"type":"int","strategy":"group",
                  "group_size":32,"symmetric":false,"actorder":"group"})"),
            packed_layer(32, true, true)),
      llama("PackedRows", compressed("pack-quantized", R"({"num_bits":4,"type":"int",
                  "strategy":"channel","symmetric":false})"),
            packed_rows_layer()),
      llama(
          "Nvfp4",
          compressed("nvfp4-pack-quantized",
                     R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16})"),
          nvfp4_layer()),
      llama("Bnb4",
            R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4",
           "bnb_4bit_use_double_quant":true})",
            bnb4_layer(true)),
      llama("Bnb8", R"({"quant_method":"bitsandbytes","load_in_8bit":true})", bnb8_layer()),
      gpt_oss(),
  };
}

std::vector<Form> grouped_forms() {
  const auto integers = [](const char* strategy, const char* more) {
    return compressed("pack-quantized",
                      R"({"num_bits":4,"type":"int",)" + std::string(strategy) + more + "}");
  };
  const auto floats = [](const std::string& strategy) {
    return compressed("float-quantized",
                      R"({"num_bits":8,"type":"float","strategy":")" + strategy + "\"}");
  };
  return {
      llama("Fp8Blocks",
            R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]})",
            fp8_block_layer(DType::kF32)),
      llama("Fp8Rows", floats("channel"), scaled_layer(DType::kF8E4M3, 1, DType::kF32)),
      llama("Fp8Tensor", floats("tensor"), scaled_layer(DType::kF8E4M3, 0, DType::kF32)),
      llama("Fp8Unscaled", "", plain_layer(DType::kF8E5M2)),
      llama("Gptq", R"({"quant_method":"gptq","bits":4,"group_size":64,"desc_act":false})",
            gptq_layer(4, 64)),
      llama("GptqRows", R"({"quant_method":"gptq","bits":4,"group_size":-1,"desc_act":false})",
            gptq_layer(4, 512)),
      llama("Awq", R"({"quant_method":"awq","bits":4,"group_size":64,"version":"gemm"})",
            awq_layer(64)),
      llama("Packed", integers(R"("strategy":"group","group_size":32,)", R"("symmetric":false)"),
            packed_layer(32, true, false)),
      llama("PackedSymmetric",
            integers(R"("strategy":"group","group_size":128,)", R"("symmetric":true)"),
            packed_layer(128, false, false)),
      llama("PackedRows", integers(R"("strategy":"channel",)", R"("symmetric":false)"),
            packed_rows_layer()),
      llama("Mxfp4Rows",
            compressed("mxfp4-pack-quantized",
                       R"({"num_bits":4,"type":"float","strategy":"group","group_size":32})"),
            mxfp4_layer()),
      gpt_oss(),
  };
}

std::vector<std::vector<std::byte>> fill(const std::filesystem::path& folder, Numbers numbers) {
  std::mt19937 random(5);
  const Checkpoint checkpoint = open_checkpoint(folder);
  std::ifstream config(folder / "config.json");
  const std::string text{std::istreambuf_iterator<char>(config), {}};
  const bool shuffled = text.find(R"("desc_act":false)") == text.npos;
  std::vector<std::vector<std::byte>> all;
  std::fstream file(checkpoint.shards[0].path, std::ios::in | std::ios::out | std::ios::binary);
  for (const TensorInfo& info : checkpoint.tensors) {
    all.push_back(contents(checkpoint, info, shuffled, numbers, random));
    file.seekp(static_cast<std::streamoff>(info.begin));
    file.write(reinterpret_cast<const char*>(all.back().data()),
               static_cast<std::streamsize>(all.back().size()));
  }
  return all;
}

}  // namespace berth::test
