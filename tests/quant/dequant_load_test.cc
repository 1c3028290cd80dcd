// Loads of quantised checkpoints as plain weights: every value is what the plain loop makes of the
// whole weight, wherever the weight goes; every byte is read once; tables stay within their share
// of memory; and nothing is left behind when a load fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/dequant.h"
#include "cuda/group_tiling.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/kernels/group_tiles.h"
#include "runtime/kernels/matrix.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/environment.h"
#include "runtime/load/schedule.h"
#include "runtime/load/streamer.h"
#include "runtime/quant/float_format.h"
#include "runtime/quant/quant_layout.h"
#include "runtime/quant/table_cache.h"
#include "runtime/verify/checksums.h"
#include "tests/error_of.h"
#include "tests/load/passing_device.h"
#include "tests/load/support.h"
#include "tests/model/quantized_layers.h"
#include "tests/quant/quantized_forms.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class DequantizedLoad : public ::testing::TestWithParam<test::Form> {
 protected:
  void SetUp() override { open(DType::kBF16); }

  void open(DType dtype) {
    test::write_checkpoint(folder_, GetParam().config, GetParam().tensors);
    stored_ = test::fill(folder_.path());
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

  PackedWeight weight_of(TensorId id) const {
    const ModelTensor& tensor = model_.tree.tensors[id];
    return {id, tensor.source, model_.tree.quantized->weights[tensor.dequantization],
            quant_layout(model_.tree, id, tensor.source, *model_.checkpoint), 1};
  }
  void with_tables(const PackedWeight& weight,
                   const std::function<void(const QuantTables&)>& work) const {
    const Checkpoint& checkpoint = *model_.checkpoint;
    const WeightTables tables(
        checkpoint, weight, model_.tree.quantized->schemes[weight.made.scheme],
        [&](std::uint32_t, std::uint64_t begin, std::uint64_t, std::byte* to) {
          const auto part = std::ranges::find(checkpoint.tensors, begin, &TensorInfo::begin);
          const auto& bytes = stored_[static_cast<std::size_t>(part - checkpoint.tensors.begin())];
          std::memcpy(to, bytes.data(), bytes.size());
        });
    work(tables.on_host());
  }

  // What the plain loop makes of the whole weight.
  virtual std::vector<std::byte> expected(TensorId id) const {
    const ModelTensor& tensor = model_.tree.tensors[id];
    const std::vector<std::byte>& packed = stored_[tensor.source];
    if (tensor.dequantization == kNone && tensor.stored == tensor.dtype) return packed;
    std::vector<std::byte> made(tensor.bytes());
    if (tensor.dequantization == kNone) {
      cast_reference(packed.data(), float_format(tensor.stored), made.data(),
                     float_format(tensor.dtype), tensor.elements());
      return made;
    }
    const PackedWeight weight = weight_of(id);
    with_tables(weight, [&](const QuantTables& tables) {
      dequantize_reference(weight.layout, tables, packed.data(), 0, packed.size(), made.data(),
                           float_format(tensor.dtype));
    });
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
    ASSERT_EQ(test::fill(folder.path()), stored_);
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

// The same weights, each as one tensor of tiles.
class GroupedLoad : public DequantizedLoad {
 protected:
  void SetUp() override {
    open(DType::kBF16);
    model_ = open_model(folder_.path(), std::nullopt, Dequantize::kPacked);
  }
  std::vector<std::byte> expected(TensorId id) const override {
    const ModelTensor& tensor = model_.tree.tensors[id];
    if (tensor.dequantization == kNone || !is_block_format(tensor.dtype)) {
      return DequantizedLoad::expected(id);
    }
    const auto form = grouped_form(tensor.dtype);
    const PackedWeight weight = weight_of(id);
    const std::size_t bytes = tile_bytes(form->format, weight.layout.columns, form->group);
    std::vector<std::byte> made(tensor.bytes());
    EXPECT_EQ(made.size(), weight.layout.rows / kTileRows * bytes);
    with_tables(weight, [&](const QuantTables& tables) {
      for (std::uint64_t row = 0; row < weight.layout.rows; row += kTileRows) {
        make_grouped_tile(weight.layout, tables, stored_[tensor.source].data(), row, *form,
                          made.data() + row / kTileRows * bytes);
      }
    });
    return made;
  }
};

TEST_P(GroupedLoad, MakesTilesOfAllQuantisedWeights) {
  std::size_t grouped = 0;
  for (const ModelTensor& tensor : model_.tree.tensors) {
    EXPECT_EQ(is_block_format(tensor.dtype), tensor.dequantization != kNone) << tensor.name;
    grouped += is_block_format(tensor.dtype);
  }
  EXPECT_GE(grouped, 2u);
  for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
    const Plan plan = plan_over({"0", "cpu", "1", "disk"}, mode);
    const auto loaded = load(model_, plan, options_, {});
    expect_loaded(*loaded);
    for (TensorId id = 0; id < model_.tree.tensors.size(); ++id) {
      const ModelTensor& tensor = model_.tree.tensors[id];
      const bool experts = tensor.shape.size() == 3;
      const std::uint64_t rows = !is_block_format(tensor.dtype) ? 0
                                 : experts                      ? tensor.shape[0] * tensor.shape[2]
                                                                : tensor.shape[0];
      EXPECT_EQ(loaded->tensor(id).tiled_rows, rows) << tensor.name;
    }
  }
}

TEST_P(GroupedLoad, PlansAndHoldsAboutWhatIsStored) {
  const auto loaded = load(model_, plan_over({"0", "cpu"}, CpuMemory::kPrivate), options_, {});
  std::uint64_t bytes = 0;
  for (const DeviceLoad& device : loaded->report().devices) bytes += device.loaded;
  EXPECT_EQ(bytes, model_.tree.bytes());
  EXPECT_LT(bytes, model_.checkpoint->bytes() * 9 / 8);
}

// A device that makes tiles as a GPU does.
class TilingDevice final : public testing::PassingDevice {
 public:
  TilingDevice(std::unique_ptr<DeviceSink> inner, std::atomic<std::size_t>& stretches)
      : PassingDevice(std::move(inner)), stretches_(stretches) {}
  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override {
    const std::scoped_lock lock(mutex_);  // a stream does one after the other
    for (const CopyJob& job : jobs) {
      if (job.tables == nullptr || !is_block_format(job.dtype)) {
        PassingDevice::copy({&job, 1}, slot);
        continue;
      }
      ++stretches_;
      tile_packed_emulated(job.tables->layout(), job.tables->on_host(),
                           group_tile(*grouped_form(job.dtype)), job.from, job.at, job.bytes,
                           memory() + job.to);
    }
  }

 private:
  std::atomic<std::size_t>& stretches_;  // of all devices
  std::mutex mutex_;
};

TEST_P(GroupedLoad, MakesTheSameTilesOnAGpu) {
  std::atomic<std::size_t> stretches{0};
  LoadEnvironment environment;
  environment.wrap_sink = [&](std::unique_ptr<DeviceSink> sink, const DeviceLedger& device) {
    if (device.kind != DeviceKind::kCuda) return sink;
    return std::unique_ptr<DeviceSink>(std::make_unique<TilingDevice>(std::move(sink), stretches));
  };
  expect_loaded(
      *load(model_, plan_over({"0", "cpu", "1"}, CpuMemory::kPrivate), options_, environment));
  EXPECT_GT(stretches, 0u);
}

// What the schedule gives to a GPU that is really there, and how many bytes that is: those that the
// planner counts.
TEST_P(GroupedLoad, StaysQuantisedOnAGpuAsPlanned) {
  const Plan plan = make_plan(model_.tree, budget_machine({{"0", 1u << 30}}), Request{});
  ASSERT_TRUE(plan.fits());
  ASSERT_EQ(plan.devices[0].kind, DeviceKind::kCuda);
  const Schedule schedule = make_schedule(model_, plan, {});
  EXPECT_EQ(schedule.held_bytes[0], plan.devices[0].weights);
  EXPECT_EQ(schedule.held_bytes[0], model_.tree.bytes());
  EXPECT_LT(schedule.held_bytes[0], model_.checkpoint->bytes() * 9 / 8);
  std::size_t tiled = 0;
  for (const Segment& segment : schedule.segments) {
    tiled += segment.weight != kNone && is_block_format(segment.dtype);
  }
  EXPECT_GT(tiled, 0u);
  const SinkNeeds needs = sink_needs(schedule, 0);
  EXPECT_TRUE(needs.raw);
  EXPECT_TRUE(needs.zeros);
}

INSTANTIATE_TEST_SUITE_P(All, GroupedLoad, ::testing::ValuesIn(test::grouped_forms()),
                         [](const auto& value) { return value.param.name; });

// A file that says that inputs are in order, and has them in another one, is found out as it is
// loaded.
TEST(GroupedLoads, AreRefusedWhereTilesCannotSayTheWeight) {
  test::TempFolder folder;
  const auto forms = test::grouped_forms();
  const auto& form = *std::ranges::find(forms, "Gptq", &test::Form::name);
  test::write_checkpoint(folder, form.config, form.tensors);
  test::fill(folder.path());
  const Model model = open_model(folder.path(), std::nullopt, Dequantize::kPacked);
  const auto order = std::ranges::find_if(model.checkpoint->tensors, [](const TensorInfo& info) {
    return info.name.ends_with("g_idx");
  });
  {
    std::fstream file(model.checkpoint->shards[0].path,
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(order->begin)).put(1);
  }
  const Model changed = open_model(folder.path(), std::nullopt, Dequantize::kPacked);
  LoadOptions options;
  std::vector<testing::TestTensor> tensors(changed.tree.tensors.size());
  const Plan plan = testing::make_test_plan(changed, tensors, CpuMemory::kPrivate);
  EXPECT_THAT(
      testing::error_of([&] { load(changed, plan, options, {}); }),
      HasSubstr("no kernel computes with this weight as U4_G64: the inputs of the weight are "
                "in an order of their own (act-order); --dequantize makes a plain one"));
}

// desc_act, where it is true or not said, and groups that 32 does not divide: plain weights.
TEST(GroupedLoads, LeaveOutWhatNoFormatSays) {
  const auto dtype_of = [](const std::string& config, const test::Layer& layer) {
    test::TempFolder folder;
    test::write_checkpoint(folder, test::small_config(config), test::small_tensors(layer));
    const Model model = open_model(folder.path(), std::nullopt, Dequantize::kPacked);
    const auto found = std::ranges::find(model.tree.tensors, "model.layers.0.mlp.up_proj.weight",
                                         &ModelTensor::name);
    return found->dtype;
  };
  const std::string gptq = R"({"quant_method":"gptq","bits":4,"group_size":128)";
  EXPECT_EQ(dtype_of(gptq + R"(,"desc_act":false})", test::gptq_layer(4, 128)), DType::kU4G128);
  EXPECT_EQ(dtype_of(gptq + R"(,"desc_act":true})", test::gptq_layer(4, 128)), DType::kBF16);
  EXPECT_EQ(dtype_of(gptq + "}", test::gptq_layer(4, 128)), DType::kBF16);
  EXPECT_EQ(dtype_of(gptq + "}", test::gptq_layer(4, 128, false)), DType::kU4G128);
  EXPECT_EQ(dtype_of(R"({"quant_method":"gptq","bits":8,"group_size":128,"desc_act":false})",
                     test::gptq_layer(8, 128)),
            DType::kBF16);
}

INSTANTIATE_TEST_SUITE_P(All, DequantizedLoad, ::testing::ValuesIn(test::quantized_forms()),
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

INSTANTIATE_TEST_SUITE_P(Gptq, DequantizedFault, ::testing::Values(test::quantized_forms()[2]));

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

INSTANTIATE_TEST_SUITE_P(Gptq, SymmetricGptq, ::testing::Values(test::quantized_forms()[2]));

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
