// Checksums: the digest against its definition, the checksum file against its model, and what
// --verify finds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/verify/checksums.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/error_of.h"
#include "tests/instance_share.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TempFolder;
using testing::TestTensor;

std::span<const std::byte> bytes_of(const std::vector<char>& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// The digest by its definition, which is at the head of digest.h.
std::string reference(const std::vector<char>& data) {
  const auto canonical = [](const void* from, std::size_t bytes) {
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(from, bytes));
    return std::string(reinterpret_cast<const char*>(digest.digest), sizeof digest.digest);
  };
  std::string blocks;
  for (std::size_t at = 0; at < data.size(); at += 262144) {
    blocks += canonical(data.data() + at, std::min<std::size_t>(262144, data.size() - at));
  }
  const std::string whole = canonical(blocks.data(), blocks.size());
  std::string hex;
  for (const char c : whole) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", static_cast<unsigned char>(c));
    hex += text;
  }
  return hex;
}

TEST(Digest, IsXxh3OverTheXxh3OfEachBlock) {
  std::mt19937 random(1);
  for (const std::size_t size : {0u, 1u, 262143u, 262144u, 262145u, 1'000'003u}) {
    std::vector<char> data(size);
    for (char& c : data) c = static_cast<char>(random());
    EXPECT_EQ(digest_of(bytes_of(data)).hex(), reference(data)) << size;
  }
}

TEST(Digest, IsTheSameFromPiecesOfAnySize) {
  std::mt19937 random(2);
  std::vector<char> data(1'000'003);
  for (char& c : data) c = static_cast<char>(random());
  for (const std::size_t step : {1000u, 262144u, 300'000u, 2'000'000u}) {
    OrderedDigest digest;
    for (std::size_t at = 0; at < data.size(); at += step) {
      digest.add(bytes_of(data).subspan(at, std::min(step, data.size() - at)));
    }
    EXPECT_EQ(digest.finish(), digest_of(bytes_of(data))) << step;
  }
  EXPECT_EQ(OrderedDigest().finish(), digest_of({}));
}

TEST(Digest, OfNothingAndOfOneByteAreTheseForEver) {
  EXPECT_EQ(digest_of({}).hex(), "99aa06d3014798d86001c324468d497f");
  const std::optional<Digest> parsed = Digest::parse("99aa06d3014798d86001c324468d497f");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed, digest_of({}));
  EXPECT_FALSE(Digest::parse("99AA06d3014798d86001c324468d497f"));
  EXPECT_FALSE(Digest::parse("99aa"));
}

// Whether each tensor that is not empty shares bytes with another one.
bool all_share(const Checkpoint& checkpoint) {
  return std::ranges::all_of(checkpoint.tensors, [&](const TensorInfo& tensor) {
    return tensor.bytes() == 0 || std::ranges::any_of(checkpoint.tensors, [&](const TensorInfo& o) {
             return &o != &tensor && o.shard == tensor.shard && o.begin < tensor.end &&
                    tensor.begin < o.end && o.bytes() > 0;
           });
  });
}

// Tensors of every awkward size; their bytes are cut anywhere and come in any order. Where some
// tensors share bytes, some of all bytes come twice.
TEST(TensorDigests, DoNotDependOnHowBytesArrive) {
  for (unsigned seed = 0; seed < 100 / kInstanceShare; ++seed) {
    std::mt19937 random(seed);
    Checkpoint checkpoint;
    checkpoint.shards.resize(2);
    std::vector<std::vector<char>> files(2);
    const bool shared = seed % 2 == 1;
    for (std::uint32_t shard = 0; shard < 2; ++shard) {
      std::uint64_t at = random() % 100;
      for (int i = 0; i < 5; ++i) {
        const std::uint64_t sizes[] = {0, 1, 1000, 262144, 262145, 700'000};
        TensorInfo tensor;
        tensor.shard = shard;
        tensor.begin = at;
        tensor.end = at + sizes[random() % std::size(sizes)];
        at = tensor.end + (random() % 3 == 0 ? random() % 50 : 0);  // gaps belong to nobody
        if (shared && random() % 2 == 0) at = tensor.begin + random() % (tensor.bytes() + 1);
        checkpoint.tensors.push_back(tensor);
      }
      for (const TensorInfo& tensor : checkpoint.tensors) at = std::max(at, tensor.end);
      files[shard].resize(at);
      for (char& c : files[shard]) c = static_cast<char>(random());
    }
    struct Part {
      std::uint32_t shard;
      std::uint64_t begin, end;
    };
    std::vector<Part> parts;
    for (std::uint32_t shard = 0; shard < 2; ++shard) {
      for (std::uint64_t at = 0; at < files[shard].size();) {
        const std::uint64_t end =
            std::min<std::uint64_t>(files[shard].size(), at + 1 + random() % 300'000);
        parts.push_back({shard, at, end});
        at = end;
      }
    }
    if (shared && all_share(checkpoint)) {
      for (std::size_t i = parts.size(); i-- > 0;) {
        if (random() % 3 == 0) parts.push_back(parts[i]);
      }
    }
    std::shuffle(parts.begin(), parts.end(), random);
    std::map<std::uint32_t, std::string> found;
    TensorDigests digests(checkpoint, [&](std::uint32_t tensor, const Digest& digest) {
      EXPECT_TRUE(found.emplace(tensor, digest.hex()).second) << "twice";
    });
    for (const Part& part : parts) {
      digests.add(part.shard, part.begin,
                  bytes_of(files[part.shard]).subspan(part.begin, part.end - part.begin));
    }
    EXPECT_EQ(digests.unfinished(), 0u) << "seed " << seed;
    for (std::uint32_t i = 0; i < checkpoint.tensors.size(); ++i) {
      const TensorInfo& tensor = checkpoint.tensors[i];
      if (tensor.bytes() == 0) continue;
      const std::vector<char> data(files[tensor.shard].begin() + static_cast<long>(tensor.begin),
                                   files[tensor.shard].begin() + static_cast<long>(tensor.end));
      EXPECT_EQ(found[i], reference(data)) << "tensor " << i << ", seed " << seed;
    }
  }
}

class Checksumming : public ::testing::TestWithParam<IoEngine> {
 protected:
  void SetUp() override {
    if (!testing::is_available(GetParam())) {
      GTEST_SKIP() << "io_uring is not available here";
    }
    tensors_ = testing::random_tensors(random_, 60, 3, {"0", "1", "cpu", "disk"}, true);
    model_ = testing::write_model(folder_.path(), tensors_, 3, random_, true);
    options_.io = GetParam();
    options_.emulate = true;
    options_.staging = 1u << 20;
    file_ = folder_.path() / "checksums.json";
    std::ofstream(file_) << checksum_text(*model_.checkpoint, options_);
    options_.verify = file_;
  }

  std::string load_error(CpuMemory mode) {
    const Plan plan = testing::make_test_plan(model_, tensors_, mode);
    return error_of([&] { load(model_, plan, options_, LoadEnvironment{}); });
  }

  // Flips a bit in the middle of the i-th stored tensor, and keeps the times of the file as they
  // were.
  void damage(const TensorInfo& tensor) {
    const Shard& shard = model_.checkpoint->shards[tensor.shard];
    const auto time = std::filesystem::last_write_time(shard.path);
    const auto at = static_cast<std::streamoff>((tensor.begin + tensor.end) / 2);
    {
      std::fstream file(shard.path, std::ios::binary | std::ios::in | std::ios::out);
      file.seekg(at);
      const char c = static_cast<char>(file.get() ^ 4);
      file.seekp(at).put(c);
    }
    std::filesystem::last_write_time(shard.path, time);
  }

  std::mt19937 random_{11};
  TempFolder folder_;
  std::vector<TestTensor> tensors_;
  Model model_;
  LoadOptions options_;
  std::filesystem::path file_;
};

TEST_P(Checksumming, WhatWasWrittenIsWhatIsLoaded) {
  for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
    const Plan plan = testing::make_test_plan(model_, tensors_, mode);
    const auto loaded = load(model_, plan, options_, LoadEnvironment{});
    testing::expect_loaded(model_, plan, tensors_, *loaded);  // fetches those on disk, too
    EXPECT_GT(loaded->report().tensors_verified, 20u);
  }
}

TEST_P(Checksumming, ADamagedTensorIsNamedWhereverItGoes) {
  for (TensorId id = 0; id < tensors_.size(); ++id) {
    if (model_.tree.tensors[id].source == kNone || tensors_[id].bytes.empty()) continue;
    const TensorInfo& info = model_.checkpoint->tensors[model_.tree.tensors[id].source];
    damage(info);
    for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
      const Plan plan = testing::make_test_plan(model_, tensors_, mode);
      const std::string error = error_of([&] {
        const auto loaded = load(model_, plan, options_, LoadEnvironment{});
        if (loaded->tensor(id).data == nullptr) loaded->fetch(id);
      });
      EXPECT_THAT(error, AllOf(HasSubstr("tensor '" + info.name + "'"),
                               HasSubstr("checksum differs"), HasSubstr("checksums.json")));
    }
    damage(info);
  }
  EXPECT_EQ(load_error(CpuMemory::kPrivate), "no error");
}

// As tied weights do in PyTorch's files, where one may be mapped while the other is bound for a
// GPU.
TEST_P(Checksumming, TensorsThatShareBytesAreVerifiedWhereverTheyGo) {
  testing::share_bytes(model_, tensors_, random_);
  std::ofstream(file_) << checksum_text(*model_.checkpoint, options_);
  for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
    const Plan plan = testing::make_test_plan(model_, tensors_, mode);
    const auto loaded = load(model_, plan, options_, LoadEnvironment{});
    testing::expect_loaded(model_, plan, tensors_, *loaded);
    EXPECT_GT(loaded->report().tensors_verified, 20u);
  }
  for (TensorId id = 0; id < tensors_.size(); id += 3) {
    if (model_.tree.tensors[id].source == kNone || tensors_[id].bytes.empty()) continue;
    const TensorInfo& info = model_.checkpoint->tensors[model_.tree.tensors[id].source];
    damage(info);
    const Plan plan = testing::make_test_plan(model_, tensors_, CpuMemory::kMmap);
    const std::string error = error_of([&] {
      const auto loaded = load(model_, plan, options_, LoadEnvironment{});
      if (loaded->tensor(id).data == nullptr) loaded->fetch(id);
    });
    EXPECT_THAT(error, HasSubstr("checksum differs")) << info.name;
    damage(info);
  }
}

// A model of `count` tensors that share one storage of random bytes: each begins one byte later and
// goes to its end.
Model write_views(const std::filesystem::path& folder, std::size_t count, std::size_t bytes,
                  std::vector<char>& data) {
  std::mt19937 random(7);
  std::vector<TestTensor> tensors(1);
  tensors[0].name = "t00000";
  tensors[0].stored = tensors[0].dtype = DType::kU8;
  tensors[0].shape = {bytes};
  Model model = testing::write_model(folder, tensors, 1, random, false);
  data = tensors[0].bytes;
  for (std::size_t i = 1; i < count; ++i) {
    TensorInfo info = model.checkpoint->tensors[0];
    ModelTensor tensor = model.tree.tensors[0];
    const std::string number = std::to_string(i);
    info.name = "t" + std::string(5 - number.size(), '0') + number;
    info.begin += i;
    info.shape = tensor.shape = {bytes - i};
    tensor.name = model.tree.names.add(info.name);
    tensor.source = static_cast<std::uint32_t>(i);
    model.checkpoint->tensors.push_back(info);
    model.tree.tensors.push_back(tensor);
  }
  return model;
}

// 2,000 names took 1.2 GB for blocks that were being put together, 20,000 names 13 GB.
TEST(ManyViews, HoldNoMoreThanTheLimit) {
  const TempFolder folder;
  std::vector<char> data;
  const Model model = write_views(folder.path(), 600, 700'000, data);
  std::size_t done = 0;
  TensorDigests digests(*model.checkpoint, [&](std::uint32_t, const Digest&) { ++done; });
  const std::uint64_t base = model.checkpoint->tensors[0].begin;
  for (std::uint64_t at = 0; at < data.size(); at += 65536) {
    const std::uint64_t bytes = std::min<std::uint64_t>(65536, data.size() - at);
    digests.add(0, base + at, bytes_of(data).subspan(at, bytes));
    EXPECT_LE(digests.held(), TensorDigests::kMostHeld);
  }
  EXPECT_EQ(digests.held(), 0u);
  EXPECT_EQ(digests.unfinished(), 0u);
  EXPECT_GT(digests.deferred().size(), 400u);
  EXPECT_EQ(done + digests.deferred().size(), 600u);
}

TEST(ManyViews, HaveTheirChecksumsAndAreVerified) {
  const TempFolder folder;
  std::vector<char> data;
  const Model model = write_views(folder.path(), 300, 400'000, data);
  LoadOptions options;
  options.staging = 1u << 20;
  const Checksums checksums = compute_checksums(*model.checkpoint, options);
  for (std::size_t i = 0; i < checksums.size(); i += 7) {
    EXPECT_EQ(checksums[i].hex(),
              reference({data.begin() + static_cast<std::ptrdiff_t>(i), data.end()}));
  }
  options.verify = folder.path() / "checksums.json";
  std::ofstream(options.verify) << format_checksums(*model.checkpoint, checksums);
  std::vector<TestTensor> tensors(300);
  for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
    const Plan plan = testing::make_test_plan(model, tensors, mode);
    const auto loaded = load(model, plan, options, LoadEnvironment{});
    EXPECT_EQ(loaded->report().tensors_verified, 300u);
  }
  Checksums wrong = checksums;
  wrong[250].bytes[3] ^= 1;
  std::ofstream(options.verify) << format_checksums(*model.checkpoint, wrong);
  const Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kPrivate);
  EXPECT_THAT(error_of([&] { load(model, plan, options, LoadEnvironment{}); }),
              HasSubstr("tensor 't00250'"));
}

TEST_P(Checksumming, AMissingOrStaleFileSaysWhatToDo) {
  std::filesystem::remove(file_);
  EXPECT_THAT(load_error(CpuMemory::kMmap),
              AllOf(HasSubstr("checksums.json"), HasSubstr("berth checksum")));
  Checkpoint other = *model_.checkpoint;
  other.shards[1].file_bytes += 1;
  std::ofstream(file_) << checksum_text(*model_.checkpoint, options_);
  EXPECT_THAT(error_of([&] { read_checksums(file_, other); }),
              AllOf(HasSubstr("stale"), HasSubstr("model-00002"), HasSubstr("berth checksum")));
  other = *model_.checkpoint;
  other.tensors[5].name += "x";
  EXPECT_THAT(error_of([&] { read_checksums(file_, other); }), HasSubstr("stale"));
  other = *model_.checkpoint;
  other.tensors.pop_back();
  EXPECT_THAT(error_of([&] { read_checksums(file_, other); }), HasSubstr("any more"));
  std::ofstream(file_) << "{";
  EXPECT_THAT(load_error(CpuMemory::kMmap), HasSubstr("JSON"));
}

INSTANTIATE_TEST_SUITE_P(Engines, Checksumming, ::testing::ValuesIn(testing::all_engines()),
                         testing::engine_test_name);

TEST(ChecksumFile, TellsShardsOfTwoFoldersApart) {
  const TempFolder folder;
  for (const char* name : {"a", "b"}) {
    std::filesystem::create_directory(folder.path() / name);
    test::write_safetensors(folder.path() / name / "m.safetensors", {{name, DType::kF32, {2}}});
  }
  std::ofstream(folder.path() / "model.safetensors.index.json")
      << test::index_json({{"a", "a/m.safetensors"}, {"b", "b/m.safetensors"}});
  const Checkpoint checkpoint = *open_model(folder.path(), std::nullopt).checkpoint;
  const std::string text = format_checksums(checkpoint, compute_checksums(checkpoint, {}));
  EXPECT_THAT(text, HasSubstr("b/m.safetensors"));
  EXPECT_EQ(parse_checksums(text, "sums", checkpoint).size(), 2u);
}

TEST(ChecksumFile, KeepsNamesThatNeedEscaping) {
  Checkpoint checkpoint;
  checkpoint.shards.resize(1);
  checkpoint.shards[0].path = "a \"b\".safetensors";
  TensorInfo tensor;
  tensor.name = "tab\t\"quote\" \\ \x01 \xc3\xa9";
  checkpoint.tensors.push_back(tensor);
  const Checksums checksums(1, digest_of({}));
  EXPECT_EQ(parse_checksums(format_checksums(checkpoint, checksums), "x", checkpoint), checksums);
}

}  // namespace
}  // namespace berth
