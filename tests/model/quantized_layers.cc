#include "tests/model/quantized_layers.h"

#include <algorithm>

#include "berth/error.h"
#include "berth/planner.h"

namespace berth::test {
namespace {

std::uint64_t up(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }

}  // namespace

Layer plain_layer(DType dtype) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight", dtype, {out, in}}};
  };
}

Layer gptq_layer(unsigned bits, std::uint64_t group, bool with_order) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    std::vector<FakeTensor> made{{name + ".qweight", DType::kI32, {in / 32 * bits, out}},
                                 {name + ".qzeros", DType::kI32, {up(in, group), out / 32 * bits}},
                                 {name + ".scales", DType::kF16, {up(in, group), out}}};
    if (with_order) made.push_back({name + ".g_idx", DType::kI32, {in}});
    return made;
  };
}

Layer awq_layer(std::uint64_t group) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".qweight", DType::kI32, {in, out / 8}},
                                   {name + ".qzeros", DType::kI32, {in / group, out / 8}},
                                   {name + ".scales", DType::kF16, {in / group, out}}};
  };
}

Layer fp8_block_layer(DType scales) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{
        {name + ".weight", DType::kF8E4M3, {out, in}},
        {name + ".weight_scale_inv", scales, {up(out, 128), up(in, 128)}}};
  };
}

Layer scaled_layer(DType weight, std::uint64_t rows, DType scales) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    std::vector<FakeTensor> made{{name + ".weight", weight, {out, in}},
                                 {name + ".weight_scale", scales, {1}}};
    if (rows != 0) made[1].shape = {out / rows, 1};
    return made;
  };
}

Layer packed_layer(std::uint64_t group, bool zero_points, bool order) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    std::vector<FakeTensor> made{{name + ".weight_packed", DType::kI32, {out, in / 8}},
                                 {name + ".weight_scale", DType::kBF16, {out, in / group}},
                                 {name + ".weight_shape", DType::kI64, {2}}};
    if (zero_points) {
      made.push_back({name + ".weight_zero_point", DType::kI32, {out / 8, in / group}});
    }
    if (order) made.push_back({name + ".weight_g_idx", DType::kI32, {in}});
    return made;
  };
}

Layer packed_rows_layer() {
  return [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight_packed", DType::kI32, {out, in / 8}},
                                   {name + ".weight_scale", DType::kBF16, {out, 1}},
                                   {name + ".weight_zero_point", DType::kI32, {out / 8, 1}},
                                   {name + ".weight_shape", DType::kI64, {2}}};
  };
}

Layer nvfp4_layer() {
  return [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight_packed", DType::kU8, {out, in / 2}},
                                   {name + ".weight_scale", DType::kF8E4M3, {out, in / 16}},
                                   {name + ".weight_global_scale", DType::kF32, {1}},
                                   {name + ".input_global_scale", DType::kF32, {1}}};
  };
}

Layer modelopt_fp4_layer() {
  return [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight", DType::kU8, {out, in / 2}},
                                   {name + ".weight_scale", DType::kF8E4M3, {out, in / 16}},
                                   {name + ".weight_scale_2", DType::kF32, {}},
                                   {name + ".input_scale", DType::kF32, {}}};
  };
}

Layer bnb4_layer(bool nested) {
  return [=](const std::string& name, std::uint64_t out, std::uint64_t in) {
    std::string state =
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [)" +
        std::to_string(out) + ", " + std::to_string(in) + "]}";
    if (nested) {
      state.pop_back();
      state += R"(, "nested_blocksize": 256, "nested_dtype": "float32", )"
               R"("nested_offset": 0.04566267505288124})";
    }
    const std::uint64_t blocks = up(out * in, 64);
    std::vector<FakeTensor> made{
        {name + ".weight", DType::kU8, {out * in / 2, 1}},
        {name + ".weight.absmax", nested ? DType::kU8 : DType::kF32, {blocks}},
        {name + ".weight.quant_map", DType::kF32, {16}},
        {name + ".weight.quant_state.bitsandbytes__nf4", DType::kU8, {state.size()}}};
    if (nested) {
      made.push_back({name + ".weight.nested_absmax", DType::kF32, {up(blocks, 256)}});
      made.push_back({name + ".weight.nested_quant_map", DType::kF32, {256}});
    }
    return made;
  };
}

Layer bnb8_layer() {
  return [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight", DType::kI8, {out, in}},
                                   {name + ".SCB", DType::kF32, {out}},
                                   {name + ".weight_format", DType::kU8, {}}};
  };
}

std::string small_config(const std::string& quantization, const std::string& more) {
  return R"({"model_type":"llama","hidden_size":256,"intermediate_size":512,"num_hidden_layers":2,
      "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":96,"dtype":"bfloat16",
      "max_position_embeddings":128)" +
         more + (quantization.empty() ? "" : R"(,"quantization_config":)" + quantization) + "}";
}

std::vector<FakeTensor> small_tensors(const std::function<Layer(const std::string&)>& pick) {
  std::vector<FakeTensor> made{{"model.embed_tokens.weight", DType::kBF16, {96, 256}},
                               {"model.norm.weight", DType::kBF16, {256}}};
  const auto add = [&](const std::string& name, std::uint64_t out, std::uint64_t in) {
    for (FakeTensor& tensor : pick(name)(name, out, in)) made.push_back(std::move(tensor));
  };
  for (int i = 0; i < 2; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    made.push_back({at + "input_layernorm.weight", DType::kBF16, {256}});
    made.push_back({at + "post_attention_layernorm.weight", DType::kBF16, {256}});
    add(at + "self_attn.q_proj", 256, 256);
    add(at + "self_attn.k_proj", 128, 256);
    add(at + "self_attn.v_proj", 128, 256);
    add(at + "self_attn.o_proj", 256, 256);
    add(at + "mlp.gate_proj", 512, 256);
    add(at + "mlp.up_proj", 512, 256);
    add(at + "mlp.down_proj", 256, 512);
  }
  add("lm_head", 96, 256);
  return made;
}

std::vector<FakeTensor> small_tensors(const Layer& layer) {
  return small_tensors([&](const std::string& name) {
    return name == "lm_head" ? plain_layer(DType::kBF16) : layer;
  });
}

void write_checkpoint(const TempFolder& folder, const std::string& config,
                      const std::vector<FakeTensor>& tensors) {
  folder.write("config.json", config);
  write_safetensors(folder / "model.safetensors", tensors);
}

std::vector<std::string> outline(const ModelTree& tree) {
  std::vector<std::string> lines;
  for (const ModelTensor& tensor : tree.tensors) {
    std::string line =
        std::string(tensor.name) + " " + std::string(dtype_name(tensor.stored)) + " ";
    line += std::string(dtype_name(tensor.dtype)) + " [";
    for (const std::uint64_t size : tensor.shape) {
      if (size != 1) line += std::to_string(size) + " ";
    }
    line += "] " + std::to_string(tensor.elements()) + " of ";
    line += tree.modules[tensor.module].name;
    lines.push_back(line + (tensor.tied_to == kNone ? "" : " tied"));
  }
  return lines;
}

std::string open_error(const std::filesystem::path& path) {
  try {
    open_model(path, std::nullopt);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace berth::test
