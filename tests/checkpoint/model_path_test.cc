// What a MODEL names: Hugging Face's cache folders and their revisions, state dicts of a PyTorch
// file, files without a usual name; and which files of a folder are its model.
#include "planner/checkpoint/open/model_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "planner/checkpoint/open/open_checkpoint.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/error_of.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using test::write_safetensors;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kOld = "0123456789abcdef0123456789abcdef01234567";
const std::string kNew = "01ff456789abcdef0123456789abcdef01234567";

// As huggingface_hub lays it out: snapshots of links to blobs, refs that name commits.
class CacheFolder : public ::testing::Test {
 protected:
  CacheFolder() : cache_(folder_ / "models--org--tiny") {
    fs::create_directories(cache_ / "blobs");
    fs::create_directories(cache_ / "refs/pr");
  }

  void snapshot(const std::string& commit, std::uint64_t elements) {
    const fs::path to = cache_ / "snapshots" / commit;
    fs::create_directories(to);
    write_safetensors(cache_ / "blobs" / commit, {{"a", DType::kF32, {elements}}});
    fs::create_symlink("../../blobs/" + commit, to / "model.safetensors");
    const auto age = std::chrono::hours(commit == kNew ? 1 : 2);
    fs::last_write_time(to, fs::file_time_type::clock::now() - age);
  }
  void ref(const std::string& name, const std::string& text) const {
    folder_.write("models--org--tiny/refs/" + name, text);
  }
  std::string opened(const std::string& revision = "") const {
    return resolve_model(cache_.string() + revision).path.filename().string();
  }

  TempFolder folder_;
  fs::path cache_;
};

TEST_F(CacheFolder, IsItsSnapshot) {
  snapshot(kOld, 2);
  ref("main", kOld);
  const Checkpoint checkpoint = open_checkpoint(cache_);
  EXPECT_EQ(checkpoint.folder, cache_ / "snapshots" / kOld);
  EXPECT_EQ(checkpoint.tensors.size(), 1u);
  EXPECT_THAT(checkpoint.notes, IsEmpty());
  EXPECT_EQ(folder_name(checkpoint.folder), "org/tiny");
}

TEST(FolderName, OfNoFolderIsThatOfTheWorkingDirectory) {
  const std::string here = fs::current_path().filename().string();
  EXPECT_EQ(folder_name(""), here);  // where config.json was named without a folder
  EXPECT_EQ(folder_name("."), here);
}

TEST_F(CacheFolder, OfSeveralSnapshotsIsThatOfMainElseTheNewest) {
  snapshot(kOld, 2);
  snapshot(kNew, 3);
  EXPECT_EQ(opened(), kNew);
  EXPECT_THAT(open_checkpoint(cache_).notes,
              ElementsAre("of 2 snapshots, " + kNew +
                          " is opened, the newest; MODEL@REVISION names another"));
  ref("main", kOld + "\n");
  EXPECT_EQ(opened(), kOld);
  EXPECT_THAT(open_checkpoint(cache_).notes, ElementsAre(HasSubstr("which is 'main'")));
  ref("main", "ffff");  // was never fetched whole
  EXPECT_EQ(opened(), kNew);
}

TEST_F(CacheFolder, TakesARevisionByBranchTagOrCommit) {
  snapshot(kOld, 2);
  snapshot(kNew, 3);
  ref("main", kNew);
  ref("v1.0", kOld);
  ref("pr/3", kOld);
  for (const std::string& named :
       {std::string("v1.0"), std::string("pr/3"), kOld, kOld.substr(0, 4)}) {
    EXPECT_EQ(opened("@" + named), kOld) << named;
  }
  EXPECT_EQ(opened("@main"), kNew);
  EXPECT_EQ(open_checkpoint(cache_.string() + "@v1.0").tensors[0].shape, Shape{2});
  EXPECT_THAT(error_of([&] { opened("@01"); }), HasSubstr("'01' begins several commits"));
  EXPECT_THAT(error_of([&] { opened("@v2"); }),
              HasSubstr("'v2' is no revision in the cache (there are 'main', 'v1.0', '" + kOld));
  ref("v2", "ffff");
  EXPECT_THAT(error_of([&] { opened("@v2"); }),
              EndsWith("the snapshot of 'v2', 'ffff', is not in the cache: fetch it"));
  EXPECT_THAT(error_of([&] { opened("@../refs/main"); }), HasSubstr("is no revision"));
}

TEST_F(CacheFolder, WithoutASnapshotSaysSo) {
  fs::create_directories(cache_ / "snapshots");
  EXPECT_THAT(error_of([&] { opened(); }), HasSubstr("cache folder without a snapshot"));
}

TEST(ModelPath, APathThatExistsIsNotTakenApart) {
  const TempFolder folder;
  fs::create_directory(folder / "a@b");
  EXPECT_EQ(resolve_model(folder / "a@b").path, folder / "a@b");
  EXPECT_EQ(resolve_model(folder / "x@y").path, folder / "x@y");
  EXPECT_THAT(error_of([&] { resolve_model(folder.path().string() + "@main"); }),
              HasSubstr("is not a Hugging Face cache folder, so '@' names nothing in it"));
}

TEST(ModelPath, AFileIsToldByWhatItBeginsWith) {
  const TempFolder folder;
  write_safetensors(folder / "0123abcd", {{"a", DType::kF32, {2}}});
  EXPECT_EQ(open_checkpoint(folder / "0123abcd").format, CheckpointFormat::kSafetensors);
  const fs::path corpus = fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch";
  for (const char* name : {"last.ckpt", "89ef"}) {
    fs::copy_file(corpus / "ok_wrapped", folder / name);
    EXPECT_EQ(open_checkpoint(folder / name).format, CheckpointFormat::kTorch);
  }
  fs::copy_file(corpus / "ok_legacy_protocol_4", folder / "old.ckpt");
  EXPECT_EQ(open_checkpoint(folder / "old.ckpt").tensors.size(), 7u);
  folder.write("notes.ckpt", "none of these");
  EXPECT_THAT(error_of([&] { open_checkpoint(folder / "notes.ckpt"); }),
              HasSubstr("is neither a folder nor a"));
}

TEST(ModelPath, AStateDictOfAFileIsNamed) {
  const TempFolder folder;
  const fs::path corpus = fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch";
  fs::copy_file(corpus / "root_several", folder / "gan.pt");
  const std::string file = (folder / "gan.pt").string();
  EXPECT_THAT(error_of([&] { open_checkpoint(folder / "gan.pt"); }),
              HasSubstr("('generator', 'critic'); name the one that you mean, as in "
                        "FILE@generator"));
  EXPECT_EQ(open_checkpoint(file + "@critic").tensors.size(), 1u);
  EXPECT_THAT(error_of([&] { open_checkpoint(file + "@other"); }),
              HasSubstr("the file has no dict 'other' (there are 'generator', 'critic')"));
  EXPECT_THAT(error_of([&] { open_checkpoint(file + "@critic/a"); }),
              HasSubstr("the file has no dict 'a'"));
  fs::copy_file(corpus / "ok_objects", folder / "nested.pt");
  EXPECT_THAT(error_of([&] { open_checkpoint((folder / "nested.pt").string() + "@nested/x"); }),
              HasSubstr("no dict in it maps names to tensors"));
  write_safetensors(folder / "m.safetensors", {{"a", DType::kF32, {2}}});
  EXPECT_THAT(error_of([&] { open_checkpoint((folder / "m.safetensors").string() + "@a"); }),
              HasSubstr("so '@' names nothing in it"));
}

std::vector<std::string> files_of(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const Shard& shard : checkpoint.shards) names.push_back(shard.path.filename().string());
  return names;
}

TEST(FolderFiles, AdaptersAndOriginalsAreLeftOutBesideAModel) {
  const TempFolder folder;
  write_safetensors(folder / "model-00001-of-00001.safetensors", {{"a", DType::kF32, {2}}});
  write_safetensors(folder / "adapter_model.safetensors", {{"l", DType::kF32, {2}}});
  write_safetensors(folder / "consolidated-00001-of-00001.safetensors", {{"o", DType::kF32, {2}}});
  write_safetensors(folder / "optimizer.safetensors", {{"m", DType::kF32, {2}}});
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  EXPECT_THAT(files_of(checkpoint), ElementsAre("model-00001-of-00001.safetensors"));
  EXPECT_THAT(checkpoint.notes,
              ElementsAre("'consolidated-00001-of-00001.safetensors' is left out: weights in their "
                          "maker's own form",
                          "'adapter_model.safetensors' is an adapter and left out; PEFT merges it "
                          "into a model"));
}

TEST(FolderFiles, APyTorchModelComesBeforeAnAdapterOfAnotherFormat) {
  const TempFolder folder;
  write_safetensors(folder / "adapter_model.safetensors", {{"l", DType::kF32, {2}}});
  fs::copy_file(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch/ok_module",
                folder / "pytorch_model-00001-of-00001.bin");
  EXPECT_THAT(files_of(open_checkpoint(folder.path())),
              ElementsAre("pytorch_model-00001-of-00001.bin"));
}

TEST(FolderFiles, AnythingElseIsOpenedWhereItIsAlone) {
  const TempFolder folder;
  write_safetensors(folder / "adapter_model.safetensors", {{"l", DType::kF32, {2}}});
  EXPECT_THAT(files_of(open_checkpoint(folder.path())), ElementsAre("adapter_model.safetensors"));
  write_safetensors(folder / "consolidated-00001-of-00002.safetensors", {{"o", DType::kF32, {2}}});
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path()); }),
              HasSubstr("'consolidated-00002-of-00002.safetensors' is missing"));
  write_safetensors(folder / "consolidated-00002-of-00002.safetensors", {{"p", DType::kF32, {2}}});
  EXPECT_EQ(open_checkpoint(folder.path()).tensors.size(), 2u);
}

TEST(FolderFiles, SlicesOfEveryTensorAreNotAModel) {
  const TempFolder folder;
  const fs::path corpus = fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch";
  fs::copy_file(corpus / "ok_module", folder / "consolidated.00.pth");
  EXPECT_EQ(open_checkpoint(folder.path()).tensors.size(), 2u);
  fs::copy_file(corpus / "ok_module", folder / "consolidated.01.pth");
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path()); }),
              HasSubstr("holds original weights (consolidated.00.pth and 1 more), each file a "
                        "slice of every tensor"));
}

}  // namespace
}  // namespace berth
