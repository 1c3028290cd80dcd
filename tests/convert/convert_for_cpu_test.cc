// Writing weights in tiles: they are what a load would have made, they are mapped without a copy,
// and everything else gets them as they were.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "planner/checkpoint/gguf/header.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/generate/executor.h"
#include "tests/error_of.h"
#include "tests/instance_share.h"
#include "tests/load/support.h"
#include "tests/program/made_model.h"
#include "tests/program/packed_model.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

using Bytes = std::vector<std::byte>;

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::uint32_t on_cpu(const ModelTensor&, TensorId) { return kCpu; }
std::uint32_t by_turns(const ModelTensor&, TensorId id) { return id % 4; }

struct Held {
  std::map<std::string, Bytes> bytes;  // by tensor
  std::map<std::string, std::uint64_t> tiled_rows;
  LoadReport report;
};

class ConvertForCpu : public ::testing::TestWithParam<PackedFormat> {
 protected:
  static Plan plan_for(const Model& model, const Where& where, CpuMemory memory) {
    Plan plan = made_plan(model.tree, where);
    plan.cpu_memory = memory;
    for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
    return plan;
  }

  static std::unique_ptr<LoadedModel> loaded(const Model& model, const Plan& plan, bool tile,
                                             std::uint64_t staging = 128u << 20) {
    LoadOptions options;
    options.emulate = true;
    options.tile = tile;
    options.staging = staging;
    return load(model, plan, options, LoadEnvironment{});
  }

  static Held held(const Model& model, const Where& where, CpuMemory memory, bool tile,
                   std::uint64_t staging = 128u << 20) {
    const Plan plan = plan_for(model, where, memory);
    const auto load = loaded(model, plan, tile, staging);
    Held out;
    for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
      if (!model.tree.tensors[id].persistent) continue;
      const LoadedTensor& tensor = load->tensor(id);
      HostBlock block;
      if (tensor.data == nullptr) block = load->fetch(id);
      const std::byte* data = tensor.data != nullptr ? tensor.data : block.data.get();
      const std::string name(model.tree.tensors[id].name);
      out.bytes[name] = Bytes(data, data + tensor.bytes);
      out.tiled_rows[name] = tensor.tiled_rows;
    }
    out.report = load->report();
    return out;
  }

  fs::path written(bool experts) const {
    const fs::path path = folder_.path() / (experts ? "experts.gguf" : "dense.gguf");
    PackedModel(GetParam(), experts).write(path);
    return path;
  }

  // The model in tiles, of the one at `path`.
  fs::path in_tiles(const fs::path& path, std::uint64_t most_bytes = 5'000'000'000) const {
    ConvertOptions options;
    options.max_shard_bytes = most_bytes;
    const fs::path out = folder_.path() / (path.stem().string() + "-tiles");
    fs::remove_all(out);
    report_ = convert_for_cpu(open_model(path, std::nullopt), out, options);
    return out;
  }

  TempFolder folder_;
  mutable ConvertReport report_;
};

TEST_P(ConvertForCpu, WritesWhatALoadWouldMakeAndMapsIt) {
  for (const bool experts : {false, true}) {
    if (kInstanceShare > 1 && !experts) continue;
    const fs::path path = written(experts);
    const Held expected = held(open_model(path, std::nullopt), on_cpu, CpuMemory::kPrivate, true);
    const Model model = open_model(in_tiles(path), std::nullopt);
    EXPECT_EQ(report_.tiled, experts ? 27 : 15);
    EXPECT_THAT(model.tree.notes, ::testing::Contains(HasSubstr("weights are in tiles")));
    const Held mapped = held(model, on_cpu, CpuMemory::kMmap, true);
    EXPECT_EQ(mapped.bytes, expected.bytes);
    EXPECT_EQ(mapped.tiled_rows, expected.tiled_rows);
    EXPECT_EQ(mapped.report.bytes_read, 0);
    EXPECT_EQ(mapped.report.bytes_mapped, model.checkpoint->bytes());
    const Held in_private = held(model, on_cpu, CpuMemory::kPrivate, true);
    EXPECT_EQ(in_private.bytes, expected.bytes);
    EXPECT_EQ(in_private.tiled_rows, expected.tiled_rows);
    const Held anywhere = held(model, by_turns, CpuMemory::kMmap, true);
    EXPECT_EQ(anywhere.bytes, expected.bytes);
    EXPECT_EQ(anywhere.tiled_rows, expected.tiled_rows);
  }
}

// With little staging, chunks cut tiles.
TEST_P(ConvertForCpu, RowsComeBackForWhoeverWantsThem) {
  unsigned turn = 0;
  for (const bool experts : {false, true}) {
    const fs::path path = written(experts);
    const fs::path tiles = in_tiles(path);
    for (const std::optional<DType> dtype :
         {std::optional<DType>(), std::optional(DType::kBF16), std::optional(DType::kF32)}) {
      const Held expected = held(open_model(path, dtype), on_cpu, CpuMemory::kPrivate, false);
      const Model model = open_model(tiles, dtype);
      for (const std::uint64_t staging : {256u << 10, 128u << 20}) {
        for (const Where& where : {Where(on_cpu), Where(by_turns)}) {
          for (const bool tile : {false, dtype.has_value()}) {
            if (!is_its_turn(turn, std::min(kInstanceShare, 5))) continue;
            const Held found = held(model, where, CpuMemory::kMmap, tile, staging);
            EXPECT_EQ(found.bytes, expected.bytes);
            for (const auto& [name, rows] : found.tiled_rows) EXPECT_EQ(rows, 0) << name;
          }
        }
      }
    }
  }
}

TEST_P(ConvertForCpu, RunsToTheSameBits) {
  const fs::path path = written(true);
  const auto ran = [&](const fs::path& of, CpuMemory memory) {
    const Model model = open_model(of, std::nullopt);
    const Plan plan = plan_for(model, on_cpu, memory);
    const auto load = loaded(model, plan, true);
    RunOptions options;
    options.prompt_ids = {{1, 5, 9, 33, 74, 2, 5}};
    options.new_tokens = 4;
    options.stop_at_end_of_text = false;
    options.logits_file = folder_.path() / "logits.safetensors";
    const auto ids = run(model, plan, *load, options).sequences[0].new_ids;
    return std::pair(ids, slurp(*options.logits_file));
  };
  const auto expected = ran(path, CpuMemory::kPrivate);
  const fs::path tiles = in_tiles(path);
  EXPECT_EQ(ran(tiles, CpuMemory::kMmap), expected);
  EXPECT_EQ(ran(tiles, CpuMemory::kPrivate), expected);
}

TEST_P(ConvertForCpu, IsConvertedBackToWhatItsOriginalIsConvertedTo) {
  const fs::path path = written(true);
  const auto plain = [&](const fs::path& of, const std::string& name) {
    const Model model = open_model(of, DType::kBF16);
    std::vector<ConvertTensor> tensors;
    for (std::uint32_t i = 0; i < model.checkpoint->tensors.size(); ++i) {
      tensors.push_back({model.checkpoint->tensors[i].name, i, DType::kBF16});
    }
    convert(*model.checkpoint, tensors, {}, folder_.path() / name, {});
    return slurp(folder_.path() / name / "model.safetensors");
  };
  EXPECT_EQ(plain(in_tiles(path), "b"), plain(path, "a"));
}

TEST_P(ConvertForCpu, SplitsAreOneModel) {
  const fs::path path = written(true);
  const Held whole = held(open_model(in_tiles(path), std::nullopt), on_cpu, CpuMemory::kMmap, true);
  const fs::path splits = in_tiles(path, 200'000);
  EXPECT_GT(report_.files.size(), 2);
  EXPECT_TRUE(fs::exists(splits / report_.files[0].name));
  EXPECT_THAT(report_.files[0].name, ::testing::StartsWith("model-00001-of-000"));
  const Held found = held(open_model(splits, std::nullopt), on_cpu, CpuMemory::kMmap, true);
  EXPECT_EQ(found.bytes, whole.bytes);
  EXPECT_EQ(found.tiled_rows, whole.tiled_rows);
}

INSTANTIATE_TEST_SUITE_P(Formats, ConvertForCpu, ::testing::ValuesIn(kPackedFormats),
                         [](const auto& test) { return test.param.name; });

// What does not depend on the format.
class ConvertOneForCpu : public ConvertForCpu {};
INSTANTIATE_TEST_SUITE_P(Formats, ConvertOneForCpu, ::testing::Values(kPackedFormats[1]),
                         [](const auto& test) { return test.param.name; });

TEST_P(ConvertOneForCpu, KeepsTheMetadata) {
  const fs::path path = written(false);
  Shard ignored;
  const GgufHeader before = read_gguf_header(path, {}, ignored);
  const GgufHeader after = read_gguf_header(in_tiles(path) / "model.gguf", {}, ignored);
  std::map<std::string_view, std::string_view> values;
  for (const auto& [key, bytes] : after.entries()) values[key] = bytes;
  for (const auto& [key, bytes] : before.entries()) EXPECT_EQ(values[key], bytes) << key;
  EXPECT_EQ(values.size(), before.entries().size() + 2);
  EXPECT_EQ(after.unsigned_integer("general.alignment"), 64);
  EXPECT_EQ(after.unsigned_integer("berth.tiles"), 1);
  for (const GgufTensor& tensor : after.tensors()) {
    EXPECT_EQ(tensor.begin % 64, 0) << tensor.name;
    EXPECT_EQ(tensor.tiled, tensor.dtype == DType::kQ4_1) << tensor.name;
  }
}

TEST_P(ConvertOneForCpu, ChecksumsAreOfItsOwnBytes) {
  const fs::path tiles = in_tiles(written(false));
  const Model model = open_model(tiles, std::nullopt);
  const fs::path checksums = folder_.path() / "checksums.json";
  std::ofstream(checksums) << checksum_text(*model.checkpoint, {});
  const auto verified = [&](const Model& of, CpuMemory memory, bool tile) {
    LoadOptions options;
    options.emulate = true;
    options.tile = tile;
    options.verify = checksums;
    return load(of, plan_for(of, on_cpu, memory), options, LoadEnvironment{})
        ->report()
        .tensors_verified;
  };
  const std::uint64_t all = model.checkpoint->tensors.size();
  EXPECT_EQ(verified(model, CpuMemory::kMmap, true), all);
  EXPECT_EQ(verified(model, CpuMemory::kPrivate, true), all);
  EXPECT_EQ(verified(model, CpuMemory::kPrivate, false), all);
  EXPECT_EQ(verified(open_model(tiles, DType::kBF16), CpuMemory::kPrivate, true), all);
}

TEST_P(ConvertOneForCpu, RefusesWhatHasNoTiles) {
  const fs::path out = folder_.path() / "out";
  const auto error = [&](const fs::path& path) {
    return error_of([&] { convert_for_cpu(open_model(path, std::nullopt), out, {}); });
  };
  EXPECT_THAT(error(in_tiles(written(false))), HasSubstr("its weights are in tiles already"));

  GgufWriter other;
  other.text("general.architecture", "flux");
  for (const char* name : {"double_blocks.0.a.weight", "double_blocks.1.a.weight"}) {
    other.tensor(name, GetParam().ggml, {16, 32}, std::string(320, '\0'));
  }
  const fs::path unknown = folder_.path() / "unknown.gguf";
  other.write(unknown);
  EXPECT_THAT(error(unknown), HasSubstr("is planned by the names in it: Berth runs no such model"));

  std::mt19937 random(1);
  std::vector<TestTensor> tensors = random_tensors(random, 3, 1, {"cpu"}, false);
  fs::create_directory(folder_.path() / "plain");
  const Model plain = write_model(folder_.path() / "plain", tensors, 1, random, false);
  EXPECT_THAT(error_of([&] { convert_for_cpu(plain, out, {}); }),
              HasSubstr("is no GGUF model, and only the block formats of GGUF have tiles"));
  EXPECT_FALSE(fs::exists(out));
}

TEST_P(ConvertOneForCpu, LeavesNothingBehindWhenItIsInterrupted) {
  const Model model = open_model(written(false), std::nullopt);
  const auto entries = [&] {
    return std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator());
  };
  const auto before = entries();
  std::atomic<bool> cancel = true;
  ConvertOptions options;
  options.cancel = &cancel;
  EXPECT_THROW(convert_for_cpu(model, folder_.path() / "out", options), Interrupted);
  EXPECT_EQ(entries(), before);
}

TEST_P(ConvertOneForCpu, AnotherVersionOfTilesIsRefusedByName) {
  const fs::path file = in_tiles(written(false)) / "model.gguf";
  std::string bytes = slurp(file);
  const std::size_t at = bytes.find("berth.tiles") + std::strlen("berth.tiles") + 4;
  ASSERT_EQ(bytes[at], 1);
  bytes[at] = 2;
  std::ofstream(file, std::ios::binary) << bytes;
  EXPECT_THAT(error_of([&] { open_model(file, std::nullopt); }),
              HasSubstr("model.gguf: berth.tiles: version 2 of tiles is not the one that this "
                        "Berth computes on (1): convert the original file again"));
}

}  // namespace
}  // namespace berth::testing
