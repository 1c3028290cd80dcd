// Loads of quantised checkpoints as plain weights: every value is what the plain loop makes of the
// whole weight, wherever the weight goes; every byte is read once; tables stay within their share
// of memory; and nothing is left behind when a load fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/dequant.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/load/device_sink.h"
#include "runtime/quant/float_format.h"
#include "runtime/quant/quant_layout.h"
#include "runtime/quant/table_cache.h"
#include "runtime/verify/checksums.h"
#include "tests/error_of.h"
#include "tests/load/support.h"
#include "tests/model/quantized_layers.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Form {
  std::string name;
  std::string config;
  std::vector<test::FakeTensor> tensors;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

Form llama(const std::string& name, const std::string& quantization, const test::Layer& layer) {
  return {name, test::small_config(quantization), test::small_tensors(layer)};
}

// Experts in MXFP4, as gpt-oss has them.
Form gpt_oss() {
  Form form;
  form.name = "Mxfp4";
  form.config = R"({"model_type":"gpt_oss","hidden_size":64,"intermediate_size":512,
      "num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":32,
      "num_local_experts":3,"num_experts_per_tok":2,"vocab_size":16,"dtype":"bfloat16",
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

std::vector<Form> forms() {
  const auto compressed = [](const std::string& format, const std::string& weights) {
    return R"({"quant_method":"compressed-tensors","format":")" + format +
           R"(","ignore":["lm_head"],"config_groups":{"group_0":{"targets":["Linear"],"weights":)" +
           weights + R"(,"input_activations":null}}})";
  };
  return {
      llama("Fp8Blocks",
            R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]})",
            test::fp8_block_layer(DType::kF32)),
      llama("Int8",
            compressed("int-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})"),
            test::scaled_layer(DType::kI8, 1, DType::kBF16)),
      llama("Gptq", R"({"quant_method":"gptq","bits":4,"group_size":64,"desc_act":true})",
            test::gptq_layer(4, 64)),
      llama("Gptq2", R"({"quant_method":"gptq","bits":2,"group_size":32,"desc_act":false})",
            test::gptq_layer(2, 32)),
      llama("Awq", R"({"quant_method":"awq","bits":4,"group_size":64,"version":"gemm"})",
            test::awq_layer(64)),
      llama("Packed", compressed("pack-quantized", R"({"num_bits":4,"type":"int","strategy":"group",
                  "group_size":32,"symmetric":false,"actorder":"group"})"),
            test::packed_layer(32, true, true)),
      llama("PackedRows", compressed("pack-quantized", R"({"num_bits":4,"type":"int",
                  "strategy":"channel","symmetric":false})"),
            test::packed_rows_layer()),
      llama(
          "Nvfp4",
          compressed("nvfp4-pack-quantized",
                     R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16})"),
          test::nvfp4_layer()),
      llama("Bnb4",
            R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4",
           "bnb_4bit_use_double_quant":true})",
            test::bnb4_layer(true)),
      llama("Bnb8", R"({"quant_method":"bitsandbytes","load_in_8bit":true})", test::bnb8_layer()),
      gpt_oss(),
  };
}

// Contents of a stored tensor that make sense for its role: small positive floats, groups that
// exist, a text that bitsandbytes writes, and any bytes for the others.
std::vector<std::byte> contents(const Checkpoint& checkpoint, const TensorInfo& info,
                                std::mt19937& random) {
  std::vector<std::byte> bytes(info.bytes());
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  if (is_convertible(info.dtype)) {
    std::vector<float> values(info.bytes() * 8 / dtype_bits(info.dtype));
    std::uniform_real_distribution<float> small(0.001f, 0.1f);
    for (float& value : values) value = small(random);
    cast_reference(values.data(), FloatFormat::kF32, bytes.data(), float_format(info.dtype),
                   values.size());
  } else if (info.name.ends_with("g_idx")) {
    const bool gptq = info.name.ends_with(".g_idx");
    const std::string scales =
        info.name.substr(0, info.name.size() - (gptq ? 5 : 6)) + (gptq ? "scales" : "_scale");
    const auto found = std::ranges::find(checkpoint.tensors, scales, &TensorInfo::name);
    const auto groups = static_cast<std::uint32_t>(found->shape[gptq ? 0 : 1]);
    for (std::size_t i = 0; i < bytes.size() / 4; ++i) {
      const auto group = static_cast<std::uint32_t>(random() % groups);
      std::memcpy(bytes.data() + 4 * i, &group, 4);
    }
  } else if (info.name.find("quant_state") != info.name.npos) {
    std::string text = R"({"quant_type": "nf4", "nested_offset": 0.04566267505288124})";
    text.resize(bytes.size(), ' ');
    std::memcpy(bytes.data(), text.data(), text.size());
  }
  return bytes;
}

// Fills every tensor of the checkpoint in `folder` with contents, and returns these by index.
std::vector<std::vector<std::byte>> fill(const std::filesystem::path& folder) {
  std::mt19937 random(5);
  const Checkpoint checkpoint = open_checkpoint(folder);
  std::vector<std::vector<std::byte>> all;
  std::fstream file(checkpoint.shards[0].path, std::ios::in | std::ios::out | std::ios::binary);
  for (const TensorInfo& info : checkpoint.tensors) {
    all.push_back(contents(checkpoint, info, random));
    file.seekp(static_cast<std::streamoff>(info.begin));
    file.write(reinterpret_cast<const char*>(all.back().data()),
               static_cast<std::streamsize>(all.back().size()));
  }
  return all;
}

class DequantizedLoad : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override { open(DType::kBF16); }

  void open(DType dtype) {
    test::write_checkpoint(folder_, GetParam().config, GetParam().tensors);
    stored_ = fill(folder_.path());
    model_ = open_model(folder_.path(), dtype, Dequantize::kYes);
    options_.emulate = true;
    options_.staging = 256u << 10;
  }

  Plan plan_over(const std::vector<std::string>& devices, CpuMemory mode) {
    std::vector<testing::TestTensor> tensors(model_.tree.tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].device = devices[i % devices.size()];
    }
    return testing::make_test_plan(model_, tensors, mode);
  }

  // What the plain loop makes of the whole weight.
  std::vector<std::byte> expected(TensorId id) const {
    const ModelTensor& tensor = model_.tree.tensors[id];
    const std::vector<std::byte>& packed = stored_[tensor.source];
    if (tensor.dequantization == kNone && tensor.stored == tensor.dtype) return packed;
    std::vector<std::byte> made(tensor.bytes());
    if (tensor.dequantization == kNone) {
      cast_reference(packed.data(), float_format(tensor.stored), made.data(),
                     float_format(tensor.dtype), tensor.elements());
      return made;
    }
    const Checkpoint& checkpoint = *model_.checkpoint;
    const PackedWeight weight{id, tensor.source,
                              model_.tree.quantized->weights[tensor.dequantization],
                              quant_layout(model_.tree, id, tensor.source, checkpoint), 1};
    const WeightTables tables(
        checkpoint, weight, model_.tree.quantized->schemes[weight.made.scheme],
        [&](std::uint32_t, std::uint64_t begin, std::uint64_t, std::byte* to) {
          const auto part = std::ranges::find(checkpoint.tensors, begin, &TensorInfo::begin);
          const auto& bytes = stored_[static_cast<std::size_t>(part - checkpoint.tensors.begin())];
          std::memcpy(to, bytes.data(), bytes.size());
        });
    dequantize_reference(weight.layout, tables.on_host(), packed.data(), 0, packed.size(),
                         made.data(), float_format(tensor.dtype));
    return made;
  }

  void expect_loaded(const LoadedModel& loaded) const {
    for (TensorId id = 0; id < model_.tree.tensors.size(); ++id) {
      if (!model_.tree.tensors[id].persistent) continue;
      SCOPED_TRACE(model_.tree.tensors[id].name);
      const std::vector<std::byte> wanted = expected(id);
      const LoadedTensor& tensor = loaded.tensor(id);
      ASSERT_EQ(tensor.bytes, wanted.size());
      EXPECT_EQ(tensor.dtype, model_.tree.tensors[id].dtype);
      const HostBlock block = tensor.data ? HostBlock{} : loaded.fetch(id);
      const std::byte* data = tensor.data ? tensor.data : block.data.get();
      ASSERT_EQ(std::memcmp(data, wanted.data(), wanted.size()), 0);
    }
  }

  test::TempFolder folder_;
  std::vector<std::vector<std::byte>> stored_;
  Model model_;
  LoadOptions options_;
};

TEST_P(DequantizedLoad, GivesPlainWeightsEverywhere) {
  for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
    const Plan plan = plan_over({"0", "cpu", "1", "disk"}, mode);
    expect_loaded(*load(model_, plan, options_, {}));
  }
}

// Packed values and parts are compared with their checksums at each fetch.
TEST_P(DequantizedLoad, VerifiesWhatItFetches) {
  options_.verify = folder_.path() / "checksums.json";
  std::ofstream(options_.verify) << checksum_text(*model_.checkpoint, options_);
  const auto loaded = load(model_, plan_over({"disk"}, CpuMemory::kMmap), options_, {});
  expect_loaded(*loaded);
  const auto flip = [&](std::uint32_t source) {
    const TensorInfo& info = model_.checkpoint->tensors[source];
    const auto& path = model_.checkpoint->shards[info.shard].path;
    const auto time = std::filesystem::last_write_time(path);
    {
      std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
      const auto at = static_cast<std::streamoff>(info.end - 1);
      const int byte = file.seekg(at).get();
      file.seekp(at).put(static_cast<char>(byte ^ 1));
    }
    std::filesystem::last_write_time(path, time);
  };
  std::size_t flipped = 0;
  for (TensorId id = 0; id < model_.tree.tensors.size(); ++id) {
    const ModelTensor& tensor = model_.tree.tensors[id];
    if (tensor.source == kNone || tensor.dequantization == kNone) continue;
    std::vector<std::uint32_t> sources = {tensor.source};
    for (const std::uint32_t part : model_.tree.quantized->weights[tensor.dequantization].parts) {
      if (part != kNone) sources.push_back(part);
    }
    for (const std::uint32_t source : sources) {
      flip(source);
      EXPECT_THAT(testing::error_of([&] { loaded->fetch(id); }),
                  ::testing::HasSubstr("tensor '" + model_.checkpoint->tensors[source].name + "'"));
      flip(source);
      ++flipped;
    }
  }
  EXPECT_GT(flipped, 0u);
  expect_loaded(*loaded);
}

TEST_P(DequantizedLoad, ConvertsToAnyDtype) {
  for (const DType dtype : {DType::kF16, DType::kF32, DType::kF64}) {
    open(dtype);
    expect_loaded(*load(model_, plan_over({"0", "cpu"}, CpuMemory::kMmap), options_, {}));
  }
}

// Some writers leave out dimensions of size 1. The numbers are the same, and stand in the same
// order.
TEST_P(DequantizedLoad, ReadsPartsAlikeWithAndWithoutDimensionsOfOne) {
  for (const bool more : {false, true}) {
    test::TempFolder folder;
    std::vector<test::FakeTensor> tensors = GetParam().tensors;
    for (test::FakeTensor& tensor : tensors) {
      if (tensor.name.find("scale") == tensor.name.npos &&
          tensor.name.find("zero") == tensor.name.npos)
        continue;
      Shape shape;
      for (const std::uint64_t size : tensor.shape) {
        if (more || size != 1) shape.push_back(size);
      }
      if (more) shape.push_back(1);
      tensor.shape = shape;
    }
    test::write_checkpoint(folder, GetParam().config, tensors);
    ASSERT_EQ(fill(folder.path()), stored_);
    model_ = open_model(folder.path(), DType::kBF16, Dequantize::kYes);
    expect_loaded(*load(model_, plan_over({"0", "cpu"}, CpuMemory::kPrivate), options_, {}));
  }
}

TEST_P(DequantizedLoad, ReadsEveryNeededByteOnce) {
  const Plan plan = plan_over({"0", "cpu"}, CpuMemory::kPrivate);
  std::uint64_t needed = 0;
  for (const ModelTensor& tensor : model_.tree.tensors) {
    if (tensor.source != kNone) needed += model_.tree.stored_bytes(tensor);
  }
  const auto loaded = load(model_, plan, options_, {});
  EXPECT_EQ(loaded->report().bytes_read, needed);
  EXPECT_EQ(needed + model_.tree.ignored_bytes, model_.checkpoint->bytes());
}

TEST_P(DequantizedLoad, PlansWhatItHolds) {
  const Plan plan = plan_over({"0", "cpu"}, CpuMemory::kPrivate);
  const auto loaded = load(model_, plan, options_, {});
  std::uint64_t bytes = 0;
  for (const DeviceLoad& device : loaded->report().devices) bytes += device.loaded;
  EXPECT_EQ(bytes, model_.tree.bytes());
  EXPECT_EQ(bytes, 2 * model_.tree.parameters());
}

INSTANTIATE_TEST_SUITE_P(All, DequantizedLoad, ::testing::ValuesIn(forms()),
                         [](const auto& value) { return value.param.name; });

class FailingReader final : public Reader {
 public:
  FailingReader(std::unique_ptr<Reader> real, std::uint64_t at) : real_(std::move(real)), at_(at) {}
  std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* buffer) override {
    if (offset <= at_ && at_ < offset + bytes) return -EIO;
    return real_->read_some(offset, bytes, buffer);
  }

 private:
  std::unique_ptr<Reader> real_;
  std::uint64_t at_;
};

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class DequantizedFault : public DequantizedLoad {
 protected:
  const TensorInfo& stored(const std::string& name) const {
    return *std::ranges::find(model_.checkpoint->tensors, name, &TensorInfo::name);
  }
};

TEST_P(DequantizedFault, OfAPartNamesItAndLeavesNothing) {
  const TensorInfo& part = stored("model.layers.1.mlp.up_proj.scales");
  const Plan plan = plan_over({"0", "cpu"}, CpuMemory::kPrivate);
  const std::size_t descriptors = testing::open_descriptors();
  const std::size_t threads = testing::running_threads();
  LoadEnvironment environment;
  environment.wrap_reader = [&](std::unique_ptr<Reader> reader, std::uint32_t, IoEngine) {
    return std::make_unique<FailingReader>(std::move(reader), part.begin);
  };
  EXPECT_THAT(error_of([&] { load(model_, plan, options_, environment); }),
              AllOf(HasSubstr("model.safetensors: tensor 'model.layers.1.mlp.up_proj.scales'"),
                    HasSubstr("cannot read")));
  EXPECT_EQ(testing::open_descriptors(), descriptors);
  EXPECT_EQ(testing::running_threads(), threads);
  expect_loaded(*load(model_, plan, options_, {}));
}

TEST_P(DequantizedFault, GroupsThatDoNotExistAreRefused) {
  const TensorInfo& order = stored("model.layers.0.self_attn.q_proj.g_idx");
  const Plan plan = plan_over({"0", "cpu"}, CpuMemory::kPrivate);
  for (const std::int32_t wrong : {4, -1}) {
    {
      std::fstream file(folder_ / "model.safetensors",
                        std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(order.begin + 12));
      file.write(reinterpret_cast<const char*>(&wrong), 4);
    }
    const Model model = open_model(folder_.path(), DType::kBF16, Dequantize::kYes);
    EXPECT_THAT(error_of([&] { load(model, plan, options_, {}); }),
                HasSubstr("tensor 'model.layers.0.self_attn.q_proj.g_idx': element 3 is " +
                          std::to_string(wrong) + ", but there are 4 groups"));
  }
}

INSTANTIATE_TEST_SUITE_P(Gptq, DequantizedFault, ::testing::Values(forms()[2]));

class SymmetricGptq : public DequantizedLoad {
 protected:
  // Makes all zero points of the checkpoint `word`, and loads it dequantised to `device`.
  std::vector<std::string> notes(std::uint32_t word, const std::string& device) {
    std::fstream file(folder_ / "model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    for (const TensorInfo& info : model_.checkpoint->tensors) {
      if (!info.name.ends_with(".qzeros")) continue;
      file.seekp(static_cast<std::streamoff>(info.begin));
      for (std::uint64_t i = 0; i < info.bytes() / 4; ++i) {
        file.write(reinterpret_cast<const char*>(&word), 4);
      }
    }
    file.close();
    model_ = open_model(folder_.path(), DType::kBF16, Dequantize::kYes);
    return load(model_, plan_over({device}, CpuMemory::kPrivate), options_, {})->report().notes;
  }
};

TEST_P(SymmetricGptq, SaysWhereItTakesZeroPointsByTheirValues) {
  for (const char* device : {"cpu", "0", "disk"}) {
    EXPECT_THAT(notes(0x77777777, device), ::testing::IsEmpty());
    EXPECT_THAT(
        notes(0x88888888, device),
        ::testing::ElementsAre(
            "the zero points of 14 GPTQ weights ('model.layers.0.mlp.down_proj.qzeros' and others) "
            "are taken as 8, as in all symmetric weights, although checkpoint_format gptq would "
            "make "
            "them 9"));
  }
}

INSTANTIATE_TEST_SUITE_P(Gptq, SymmetricGptq, ::testing::Values(forms()[2]));

// Plain FP8 weights have no parts to read, so these tests are about the memory that the cache
// allows.
class Caches : public ::testing::Test {
 protected:
  void add_weight(std::uint64_t table_bytes, std::uint32_t uses) {
    PackedWeight weight;
    weight.made.parts.fill(kNone);
    weight.made.table_bytes = table_bytes;
    weight.uses = uses;
    for (std::uint32_t i = 0; i < uses; ++i) {
      segments_.push_back(static_cast<std::uint32_t>(weights_.size()));
    }
    weights_.push_back(weight);
  }

  std::vector<QuantScheme> plain() const {
    QuantScheme scheme;
    scheme.grain = ScaleGrain::kUnscaled;
    return {scheme};
  }

  std::vector<PackedWeight> weights_;
  std::vector<std::uint32_t> segments_;  // the weight of each segment, in order
  Checkpoint checkpoint_;
};

TEST_F(Caches, KeepTheirShareAndAlwaysGoOn) {
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) add_weight(1 + random() % 100, 1 + random() % 4);
  add_weight(500, 3);  // needs more than the share, so it waits until it is alone
  for (int i = 0; i < 400; ++i) add_weight(1 + random() % 100, 1 + random() % 4);
  const std::vector<QuantScheme> schemes = plain();
  TableCache cache(checkpoint_, weights_, schemes, 120, nullptr, [](auto...) {});
  std::mutex mutex;
  std::vector<std::uint32_t> left;
  for (const PackedWeight& weight : weights_) left.push_back(weight.uses);
  std::vector<bool> live(weights_.size());
  std::uint64_t used = 0;
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i; (i = next++) < segments_.size();) {
      const std::uint32_t weight = segments_[i];
      const auto tables = cache.acquire(weight);
      EXPECT_NE(tables, nullptr);
      {
        const std::scoped_lock lock(mutex);
        if (!live[weight]) used += weights_[weight].made.table_bytes;
        live[weight] = true;
        EXPECT_LE(used, weight == 400 ? 500u : 120u);
        if (--left[weight] == 0) used -= weights_[weight].made.table_bytes;
      }
      cache.release(weight);
    }
  };
  {
    std::vector<std::jthread> crew;
    for (int i = 0; i < 6; ++i) crew.emplace_back(work);
  }
  EXPECT_EQ(used, 0u);
}

TEST_F(Caches, WakeWhoWaitsWhenTheLoadStops) {
  add_weight(100, 2);
  add_weight(100, 1);
  const std::vector<QuantScheme> schemes = plain();
  TableCache cache(checkpoint_, weights_, schemes, 120, nullptr, [](auto...) {});
  cache.acquire(0);
  std::string error;
  {
    std::jthread waits([&] { error = error_of([&] { cache.acquire(1); }); });
    cache.stop(std::make_exception_ptr(Error("the disk is gone")));
  }
  EXPECT_EQ(error, "the disk is gone");
}

TEST_F(Caches, LookWhetherTheLoadWasCancelled) {
  add_weight(100, 2);
  add_weight(100, 1);
  const std::vector<QuantScheme> schemes = plain();
  std::atomic<bool> cancel = false;
  TableCache cache(checkpoint_, weights_, schemes, 120, &cancel, [](auto...) {});
  cache.acquire(0);
  cancel = true;
  EXPECT_THAT(error_of([&] { cache.acquire(1); }), HasSubstr("interrupted"));
}

}  // namespace
}  // namespace berth
