// Folders of PyTorch files: which files are looked for, in which order, and how they must agree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::TempFolder;
using ::testing::EndsWith;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// Copies a file of torch.save from the fuzz corpus. torch_corpus_test.cc checks the tensors in it.
void put(const std::string& name, const fs::path& to) {
  fs::copy_file(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch" / name, to,
                fs::copy_options::overwrite_existing);
}

std::string open_error(const fs::path& path) {
  try {
    open_checkpoint(path);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::string> names(const Checkpoint& checkpoint) {
  std::vector<std::string> all;
  for (const TensorInfo& tensor : checkpoint.tensors) all.push_back(tensor.name);
  std::ranges::sort(all);
  return all;
}

TEST(TorchFolder, SafetensorsComeFirstThenTheWholeFileThenTheIndex) {
  const TempFolder folder;
  put("ok_legacy_module", folder / "pytorch_model-00001-of-00001.bin");
  folder.write("pytorch_model.bin.index.json",
               test::index_json({{"weight", "pytorch_model-00001-of-00001.bin"},
                                 {"bias", "pytorch_model-00001-of-00001.bin"}}));
  EXPECT_EQ(open_checkpoint(folder.path()).shards[0].path.filename(),
            "pytorch_model-00001-of-00001.bin");
  put("ok_comment", folder / "pytorch_model.bin");
  EXPECT_EQ(open_checkpoint(folder.path()).shards[0].path.filename(), "pytorch_model.bin");
  test::write_safetensors(folder / "weights.safetensors", {{"w", DType::kF32, {2}}});
  EXPECT_EQ(open_checkpoint(folder.path()).shards[0].path.filename(), "weights.safetensors");
}

TEST(TorchFolder, ShardsStandSideBySide) {
  const TempFolder folder;
  put("ok_module", folder / "pytorch_model-00001-of-00002.bin");
  put("ok_comment", folder / "pytorch_model-00002-of-00002.bin");
  put("ok_odd", folder / "training_args.bin");  // does not belong to the model
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  EXPECT_EQ(checkpoint.shards.size(), 2u);
  EXPECT_EQ(names(checkpoint), (std::vector<std::string>{"a", "bias", "weight"}));
  fs::remove(folder / "pytorch_model-00002-of-00002.bin");
  EXPECT_THAT(open_error(folder.path()),
              EndsWith("'pytorch_model-00002-of-00002.bin' is missing (1 of 2 are here)"));
}

TEST(TorchFolder, ShardsCountWhateverTheIndexSays) {
  const TempFolder folder;
  put("ok_module", folder / "pytorch_model-00001-of-00001.bin");
  const auto index = [&](const std::vector<std::pair<std::string, std::string>>& entries) {
    folder.write("pytorch_model.bin.index.json", test::index_json(entries));
    return open_error(folder.path());
  };
  const std::string shard = "pytorch_model-00001-of-00001.bin";
  EXPECT_EQ(index({{"weight", shard}, {"bias", shard}}), "");
  EXPECT_EQ(index({{"weight", shard}}), "");
  EXPECT_EQ(names(open_checkpoint(folder.path())), (std::vector<std::string>{"bias", "weight"}));
  EXPECT_EQ(index({{"weight", shard}, {"bias", shard}, {"x", shard}}), "");
  EXPECT_THAT(index({{"weight", "../x.bin"}}), HasSubstr("leads out of the folder"));
  EXPECT_THAT(index({{"weight", "model.safetensors"}}), HasSubstr("is not a .bin file"));
}

TEST(TorchFolder, AFileIsOpenedAlone) {
  const TempFolder folder;
  put("ok_wrapped", folder / "checkpoint.pth");
  const Checkpoint checkpoint = open_checkpoint(folder / "checkpoint.pth");
  EXPECT_EQ(checkpoint.tensors.size(), 7u);
  EXPECT_EQ(checkpoint.folder, folder.path());
}

TEST(TorchFolder, SharedBytesCountOnce) {
  const TempFolder folder;
  put("ok_shared", folder / "pytorch_model.bin");
  // Two names and four views share twelve floats. Each view lies within them.
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  EXPECT_EQ(checkpoint.tensors.size(), 7u);
  EXPECT_EQ(checkpoint.bytes(), 12 * sizeof(float));
}

}  // namespace
}  // namespace berth
