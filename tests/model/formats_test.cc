// The table of formats: what a path is, how it is opened, and where its checksums stand.
#include "planner/model/open/formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/error_of.h"
#include "tests/model/tiny_gguf.h"

namespace berth {
namespace {

using ::testing::EndsWith;
using testing::error_of;
namespace fs = std::filesystem;

TEST(Formats, MessagesListTheFilesOfAllOfThem) {
  EXPECT_EQ(weight_extensions(), ".safetensors, .gguf, .bin, .pt or .pth");
}

TEST(Formats, AWholeModelIsToldByTheNameOfItsFile) {
  for (const char* name : {"a.gguf", "a.GGUF", "absent/a-00002-of-00003.gguf"}) {
    const WholeFile whole = find_whole_file(name, /*is_folder=*/false);
    ASSERT_NE(whole.format, nullptr) << name;
    EXPECT_EQ(whole.format->format, CheckpointFormat::kGguf);
    EXPECT_EQ(whole.file, name);
  }
  for (const char* name : {"a.safetensors", "a.bin", "a.json", "gguf", "a.gguf.json"}) {
    EXPECT_EQ(find_whole_file(name, false).format, nullptr) << name;
  }
}

TEST(Formats, AWholeModelIsToldByItsFirstBytesWhereItsNameSaysNothing) {
  const test::TempFolder folder;
  testing::tiny_gguf().write(folder / "sha256-0123abcd");
  EXPECT_NE(find_whole_file(folder / "sha256-0123abcd", false).format, nullptr);
  EXPECT_EQ(open_stored(folder / "sha256-0123abcd").format, CheckpointFormat::kGguf);
  folder.write("GGUF.txt", "GGUF");
  EXPECT_EQ(find_whole_file(folder / "GGUF.txt", false).format, nullptr);
}

TEST(Formats, AFolderIsItsOnlyWholeModel) {
  const test::TempFolder folder;
  const auto found = [&] { return find_whole_file(folder.path(), true); };
  EXPECT_EQ(found().format, nullptr);
  folder.write("config.json", "{}");
  folder.write("m-00002-of-00002.gguf", "");
  EXPECT_EQ(found().format, nullptr) << "a split without the first";
  folder.write("m-00001-of-00002.gguf", "");
  ASSERT_NE(found().format, nullptr);
  EXPECT_EQ(found().file, folder / "m-00001-of-00002.gguf");
  folder.write("other.gguf", "");
  EXPECT_EQ(found().format, nullptr) << "two of them";
  fs::remove(folder / "other.gguf");
  for (const char* weights : {"model.safetensors", "pytorch_model.bin"}) {
    folder.write(weights, "");
    EXPECT_EQ(found().format, nullptr) << weights;
    fs::remove(folder / weights);
  }
  for (const char* other :
       {"training_args.bin", "adapter_model.safetensors", "mmproj-model-f16.gguf"}) {
    folder.write(other, "");
    EXPECT_NE(found().format, nullptr) << other;
  }
  EXPECT_NE(found().format, nullptr);
}

void put_torch(const fs::path& to) {
  fs::copy_file(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch/ok_wrapped", to);
}

TEST(Formats, ACheckpointKnowsItsFormatAndItsChecksumFile) {
  const test::TempFolder folder;
  const auto expect = [&](const fs::path& path, CheckpointFormat format, const std::string& file) {
    const Checkpoint checkpoint = open_stored(path);
    EXPECT_EQ(checkpoint.format, format) << path;
    EXPECT_EQ(checkpoint.folder, folder.path()) << path;
    EXPECT_EQ(checksum_file(path, checkpoint), folder / file) << path;
  };
  testing::tiny_gguf().write(folder / "m.gguf");
  for (const fs::path& path : {folder / "m.gguf", folder.path()}) {
    expect(path, CheckpointFormat::kGguf, "m.gguf.checksums.json");
  }
  put_torch(folder / "pytorch_model.bin");
  expect(folder.path(), CheckpointFormat::kTorch, "berth.checksums.json");
  put_torch(folder / "a.pth");
  expect(folder / "a.pth", CheckpointFormat::kTorch, "a.pth.checksums.json");
  test::write_safetensors(folder / "a.safetensors", {{"w", DType::kF32, {2}}});
  expect(folder / "a.safetensors", CheckpointFormat::kSafetensors, "a.safetensors.checksums.json");
  expect(folder.path(), CheckpointFormat::kSafetensors, "berth.checksums.json");
}

TEST(Formats, APathOfNoFormatIsRefused) {
  const test::TempFolder folder;
  folder.write("a.onnx", "");
  EXPECT_THAT(error_of([&] { open_stored(folder / "a.onnx"); }),
              EndsWith("a.onnx: is neither a folder nor a .safetensors, .gguf, .bin, .pt or .pth "
                       "file"));
  EXPECT_THAT(error_of([&] { open_stored(folder / "absent.gguf"); }),
              EndsWith("No such file or directory"));
  EXPECT_THAT(error_of([&] { open_stored(folder / "absent"); }),
              EndsWith("no such file or folder"));
  EXPECT_THAT(error_of([&] { open_stored(folder.path()); }),
              EndsWith("holds no .safetensors file and no pytorch_model.bin, but 'a.onnx' of ONNX, "
                       "which is not read: fetch the model's safetensors"));
}

}  // namespace
}  // namespace berth
