#include "berth/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "berth/error.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/checkpoint/name_table.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/error_of.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using test::index_json;
using test::TempFolder;
using test::write_safetensors;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

// The message of the Error that opening throws; "" if it throws none.
std::string open_error(const fs::path& path, const CheckpointLimits& limits = {}) {
  try {
    open_checkpoint(path, limits);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// Writes two shards of one tensor each, and their index.
void write_pair(const TempFolder& folder) {
  write_safetensors(folder / "model-00001-of-00002.safetensors", {{"a", DType::kF32, {2}}});
  write_safetensors(folder / "model-00002-of-00002.safetensors", {{"b", DType::kBF16, {3}}});
  folder.write("model.safetensors.index.json",
               index_json({{"b", "model-00002-of-00002.safetensors"},
                           {"a", "model-00001-of-00002.safetensors"}}));
}

TEST(Checkpoint, OpensOneFileWithPlacesCountedFromItsStart) {
  TempFolder folder;
  const fs::path file = folder / "model.safetensors";
  const std::uint64_t size =
      write_safetensors(file, {{"a", DType::kF16, {2, 3}}, {"b", DType::kI64, {}}});
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  ASSERT_EQ(checkpoint.tensors.size(), 2u);
  EXPECT_EQ(checkpoint.tensors[0].name, "a");
  EXPECT_EQ(checkpoint.tensors[0].dtype, DType::kF16);
  EXPECT_THAT(checkpoint.tensors[0].shape, ElementsAre(2u, 3u));
  EXPECT_EQ(checkpoint.tensors[0].bytes(), 12u);
  EXPECT_EQ(checkpoint.tensors[1].begin, checkpoint.tensors[0].end);
  EXPECT_EQ(checkpoint.tensors[1].end, size);
  EXPECT_EQ(checkpoint.bytes(), 20u);
  EXPECT_EQ(checkpoint.folder, folder.path());
}

TEST(Checkpoint, RecordsWhichFileItRead) {
  TempFolder folder;
  const fs::path file = folder / "model.safetensors";
  const std::uint64_t size = write_safetensors(file, {{"a", DType::kF32, {2}}});
  struct stat info {};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  const Shard shard = open_checkpoint(file).shards.at(0);
  EXPECT_EQ(shard.path, file);
  EXPECT_EQ(shard.file_bytes, size);
  EXPECT_EQ(shard.inode, info.st_ino);
  EXPECT_EQ(shard.device, info.st_dev);
  EXPECT_EQ(shard.mtime_ns, info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec);
}

TEST(Checkpoint, OrdersTensorsByShardThenOffset) {
  TempFolder folder;
  write_pair(folder);
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  ASSERT_EQ(checkpoint.shards.size(), 2u);
  EXPECT_EQ(checkpoint.shards[1].path.filename(), "model-00002-of-00002.safetensors");
  EXPECT_EQ(checkpoint.tensors[0].name, "a");
  EXPECT_EQ(checkpoint.tensors[1].name, "b");
  EXPECT_EQ(checkpoint.tensors[1].shard, 1u);
}

TEST(Checkpoint, FollowsLinksAsInAHubCache) {
  TempFolder folder;
  fs::create_directory(folder / "blobs");
  fs::create_directory(folder / "snapshot");
  write_safetensors(folder / "blobs/0123abcd", {{"a", DType::kF32, {2}}});
  fs::create_symlink("../blobs/0123abcd", folder / "snapshot/model.safetensors");
  EXPECT_EQ(open_checkpoint(folder / "snapshot").tensors.size(), 1u);
}

TEST(Checkpoint, TakesAllShardsWhereTheIndexIsMissing) {
  TempFolder folder;
  write_pair(folder);
  fs::remove(folder / "model.safetensors.index.json");
  EXPECT_EQ(open_checkpoint(folder.path()).tensors.size(), 2u);
}

TEST(Checkpoint, NamesTheShardThatIsMissingWithoutAnIndex) {
  TempFolder folder;
  write_safetensors(folder / "model-00001-of-00003.safetensors", {{"a", DType::kF32, {2}}});
  write_safetensors(folder / "model-00003-of-00003.safetensors", {{"b", DType::kF32, {2}}});
  EXPECT_THAT(open_error(folder.path()),
              EndsWith("shard 'model-00002-of-00003.safetensors' is missing (2 of 3 are here)"));
}

TEST(Checkpoint, NamesTheShardThatTheIndexMisses) {
  TempFolder folder;
  write_pair(folder);
  fs::remove(folder / "model-00002-of-00002.safetensors");
  EXPECT_THAT(open_error(folder.path()),
              AllOf(HasSubstr("model.safetensors.index.json: "),
                    HasSubstr("'model-00002-of-00002.safetensors' is missing")));
}

// transformers takes what the shards hold, whatever the index says of it.
TEST(Checkpoint, NotesATensorThatNoShardHolds) {
  TempFolder folder;
  write_pair(folder);
  folder.write("model.safetensors.index.json",
               index_json({{"a", "model-00001-of-00002.safetensors"},
                           {"b", "model-00002-of-00002.safetensors"},
                           {"c", "model-00002-of-00002.safetensors"}}));
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  EXPECT_EQ(checkpoint.tensors.size(), 2u);
  EXPECT_THAT(checkpoint.notes,
              ElementsAre("model.safetensors.index.json names what no shard holds: 'c'"));
}

TEST(Checkpoint, FindsATensorInAnotherShardThanTheIndexSays) {
  TempFolder folder;
  write_pair(folder);
  folder.write("model.safetensors.index.json",
               index_json({{"a", "model-00002-of-00002.safetensors"},
                           {"b", "model-00001-of-00002.safetensors"}}));
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  ASSERT_EQ(checkpoint.tensors.size(), 2u);
  EXPECT_EQ(checkpoint.tensors[0].shard, 0u);
  EXPECT_THAT(checkpoint.notes,
              ElementsAre("model.safetensors.index.json looks in another shard for what "
                          "'model-00001-of-00002.safetensors' holds: 'a' and 1 more"));
}

TEST(Checkpoint, TakesATensorThatTheIndexDoesNotName) {
  TempFolder folder;
  write_pair(folder);
  write_safetensors(folder / "model-00002-of-00002.safetensors",
                    {{"b", DType::kBF16, {3}}, {"extra", DType::kF32, {1}}});
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  EXPECT_EQ(checkpoint.tensors.size(), 3u);
  EXPECT_THAT(checkpoint.notes, ElementsAre("model.safetensors.index.json does not name all that "
                                            "the shards hold: 'extra'; taken from there, as "
                                            "transformers does"));
}

TEST(Checkpoint, TheIndexDecidesWhichOfTwoShardsATensorIsTakenFrom) {
  for (const char* decided :
       {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    TempFolder folder;
    write_pair(folder);
    write_safetensors(folder / "model-00001-of-00002.safetensors",
                      {{"a", DType::kF32, {2}}, {"c", DType::kF32, {2}}});
    write_safetensors(folder / "model-00002-of-00002.safetensors",
                      {{"b", DType::kBF16, {3}}, {"a", DType::kF32, {2}}});
    folder.write("model.safetensors.index.json",
                 index_json({{"a", decided},
                             {"b", "model-00002-of-00002.safetensors"},
                             {"c", "model-00001-of-00002.safetensors"}}));
    const Checkpoint checkpoint = open_checkpoint(folder.path());
    ASSERT_EQ(checkpoint.tensors.size(), 3u);
    for (const TensorInfo& tensor : checkpoint.tensors) {
      if (tensor.name != "a") continue;
      EXPECT_EQ(checkpoint.shards[tensor.shard].path.filename(), decided);
    }
    ASSERT_EQ(checkpoint.notes.size(), 1u);
    EXPECT_THAT(checkpoint.notes[0], HasSubstr("several shards hold the same tensor: 'a'"));
    EXPECT_EQ(checkpoint.notes[0].ends_with("(transformers would take the last)"),
              std::string_view(decided).starts_with("model-00001"));
  }
}

TEST(Checkpoint, TheLastShardDecidesWhereTheIndexDoesNot) {
  TempFolder folder;
  write_pair(folder);
  write_safetensors(folder / "model-00001-of-00002.safetensors",
                    {{"a", DType::kF32, {2}}, {"c", DType::kF32, {2}}});
  write_safetensors(folder / "model-00002-of-00002.safetensors",
                    {{"b", DType::kBF16, {3}}, {"c", DType::kF32, {5}}});
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  ASSERT_EQ(checkpoint.tensors.size(), 3u);
  for (const TensorInfo& tensor : checkpoint.tensors) {
    if (tensor.name != "c") continue;
    EXPECT_EQ(tensor.shape, Shape{5});
  }
}

TEST(Checkpoint, OpensShardsInAFolderOfTheFolder) {
  TempFolder folder;
  fs::create_directory(folder / "shards");
  write_safetensors(folder / "shards/x.safetensors", {{"a", DType::kF32, {2}}});
  folder.write("model.safetensors.index.json", index_json({{"a", "shards/x.safetensors"}}));
  EXPECT_EQ(open_checkpoint(folder.path()).shards[0].path, folder / "shards/x.safetensors");
  folder.write("model.safetensors.index.json", index_json({{"a", "shards/../../x.safetensors"}}));
  EXPECT_THAT(open_error(folder.path()), HasSubstr("leads out of the folder"));
}

TEST(Checkpoint, RejectsATensorInTwoShards) {
  TempFolder folder;
  write_safetensors(folder / "x.safetensors", {{"a", DType::kF32, {2}}});
  write_safetensors(folder / "y.safetensors", {{"a", DType::kF32, {2}}});
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("y.safetensors: tensor 'a' is also in 'x.safetensors'"));
}

TEST(Checkpoint, ReadsNamesThatAnIndexEscapes) {
  TempFolder folder;
  write_safetensors(folder / "a.safetensors", {{"layer.w", DType::kF32, {2}}});
  write_safetensors(folder / "b.safetensors", {{R"(say \"b\")", DType::kF32, {2}}});
  folder.write("model.safetensors.index.json",
               index_json({{R"(\u006cayer.w)", "a.safetensors"},
                           {R"(say \u0022b\u0022)", "b.safetensors"}}));
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  ASSERT_EQ(checkpoint.tensors.size(), 2u);
  EXPECT_EQ(checkpoint.tensors[1].name, R"(say "b")");
}

TEST(Checkpoint, SeesThatTwoSpellingsInAnIndexAreOneName) {
  TempFolder folder;
  write_pair(folder);
  folder.write("model.safetensors.index.json",
               index_json({{"a", "absent.safetensors"},
                           {R"(\u0061)", "model-00001-of-00002.safetensors"},
                           {"b", "model-00002-of-00002.safetensors"}}));
  EXPECT_EQ(open_error(folder.path()), "") << "the last counts";
}

TEST(Checkpoint, RejectsAShardOutsideTheFolder) {
  TempFolder folder;
  fs::create_directory(folder / "model");
  write_safetensors(folder / "secret.safetensors", {{"a", DType::kF32, {2}}});
  folder.write("model/model.safetensors.index.json", index_json({{"a", "../secret.safetensors"}}));
  EXPECT_THAT(open_error(folder / "model"), HasSubstr("leads out of the folder"));
}

TEST(Checkpoint, SaysWhereATruncatedShardShouldEnd) {
  TempFolder folder;
  write_pair(folder);
  const fs::path shard = folder / "model-00001-of-00002.safetensors";
  const auto size = fs::file_size(shard);
  fs::resize_file(shard, size - 3);
  EXPECT_THAT(open_error(folder.path()),
              AllOf(HasSubstr(shard.string()), HasSubstr("truncated"), HasSubstr("tensor 'a'"),
                    HasSubstr(std::to_string(size)), HasSubstr(std::to_string(size - 3))));
  fs::resize_file(shard, 20);
  EXPECT_THAT(open_error(folder.path()), AllOf(HasSubstr(shard.string()), HasSubstr("truncated")));
  fs::resize_file(shard, 0);
  EXPECT_THAT(open_error(folder.path()), AllOf(HasSubstr(shard.string()), HasSubstr("truncated")));
}

TEST(Checkpoint, SaysWhatItFoundInsteadOfWeights) {
  const TempFolder folder;
  EXPECT_THAT(open_error(folder.path()),
              EndsWith("holds no .safetensors file and no pytorch_model.bin"));
  folder.write("flax_model.msgpack", "x");
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("but 'flax_model.msgpack' of Flax, which is not read: fetch"));
  fs::create_directory(folder / "models--org--tiny");
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("but models of a Hugging Face cache: name 'models--org--tiny' in it"));
  folder.write("training_args.bin", "x");  // would not be opened alone either
  EXPECT_THAT(open_error(folder.path()), HasSubstr("models--org--tiny"));
  folder.write("weights.pt", "x");
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("but 'weights.pt': name that file to open it alone"));
  folder.write("model.gguf", "x");
  EXPECT_THAT(open_error(folder.path()), HasSubstr("'model.gguf'"));
}

TEST(Checkpoint, SaysWhatStandsInTheFilesPlace) {
  const TempFolder folder;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') +
      "\nsize 538090408\n";
  const std::string page = "<head><title>404</title></head><body>Not found</body></html>\n";
  const std::pair<std::string, std::string> stand_ins[] = {
      {pointer, "a Git LFS pointer, not the file itself: fetch it, for example with git lfs pull"},
      {"<!DOCTYPE html>\n<html>" + page, "a web page (HTML), not the file itself"},
      {"\xEF\xBB\xBF\n  <!doctype HTML>" + page, "a web page (HTML), not the file itself"},
      {"<HTML>" + page, "a web page (HTML), not the file itself"}};
  for (const auto& [content, message] : stand_ins) {
    for (const char* name : {"model.safetensors", "pytorch_model.bin", "model.pt", "model.pth"}) {
      folder.write(name, content);
      EXPECT_THAT(open_error(folder / name), HasSubstr(std::string(name) + ": " + message));
    }
    EXPECT_THAT(open_error(folder.path()), HasSubstr("model.safetensors: " + message));
    folder.write("model.gguf", content);
    Shard shard;
    EXPECT_THAT(testing::error_of([&] { read_gguf_header(folder / "model.gguf", {}, shard); }),
                HasSubstr("model.gguf: " + message));
  }
}

TEST(Checkpoint, NamesAPathThatIsNoCheckpoint) {
  TempFolder folder;
  EXPECT_THAT(open_error(folder / "absent"), EndsWith("absent: no such file or folder"));
  folder.write("model.gguf", "x");
  EXPECT_THAT(open_error(folder / "model.gguf"), HasSubstr("neither a folder nor"));
  // Opening must neither block on a pipe nor read from it.
  ASSERT_EQ(::mkfifo((folder / "model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(open_error(folder.path()), EndsWith("is not a regular file"));
}

TEST(Checkpoint, StopsAtItsLimits) {
  TempFolder folder;
  write_safetensors(folder / "model.safetensors",
                    {{"first", DType::kF32, {2, 2}}, {"b", DType::kF32, {1}}});
  CheckpointLimits limits;
  limits.tensors = 1;
  EXPECT_THAT(open_error(folder.path(), limits), HasSubstr("more than 1 tensors"));
  limits = {};
  limits.rank = 1;
  EXPECT_THAT(open_error(folder.path(), limits), HasSubstr("more than 1 dimensions"));
  limits = {};
  limits.name_bytes = 4;
  EXPECT_THAT(open_error(folder.path(), limits), HasSubstr("the name has 5 bytes, the limit is 4"));
  limits = {};
  limits.header_bytes = 50;
  EXPECT_THAT(open_error(folder.path(), limits), HasSubstr("the limit is 50"));
}

TEST(Checkpoint, KeepsMessagesOnOneLine) {
  TempFolder folder;
  write_safetensors(folder / "x.safetensors", {{"a\\nb", DType::kF32, {2}}});
  write_safetensors(folder / "y.safetensors", {{"a\\nb", DType::kF32, {2}}});
  EXPECT_THAT(open_error(folder.path()), HasSubstr("'a\\x0ab'"));
}

TEST(Shape, KeepsFewAndManySizesAlike) {
  Shape grown;
  std::vector<std::uint64_t> expected;
  for (std::uint64_t size = 1; size <= 8; ++size) {
    grown.push_back(size);
    expected.push_back(size);
    const Shape copy = grown;
    EXPECT_THAT(copy, ::testing::ElementsAreArray(expected));
    EXPECT_EQ(copy, grown);
    EXPECT_EQ(copy.back(), size);
    EXPECT_NE(copy, Shape(expected.begin() + 1, expected.end()));
  }
  grown = {5};
  EXPECT_THAT(grown, ElementsAre(5u));
}

TEST(NameTable, KnowsEveryNameByItsNumber) {
  std::vector<std::string> names;
  for (int i = 0; i < 3000; ++i) names.push_back(std::string(i % 40, 'x') + std::to_string(i));
  const auto name_of = [&](std::uint32_t i) -> std::string_view { return names[i]; };
  NameTable table(4);  // it has to grow
  for (std::uint32_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(table.find(names[i], name_of), NameTable::kAbsent);
    EXPECT_EQ(table.insert(names[i], i, name_of), NameTable::kAbsent);
  }
  for (std::uint32_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(table.find(names[i], name_of), i);
    EXPECT_EQ(table.insert(names[i], 7, name_of), i);
  }
  EXPECT_EQ(table.size(), names.size());
}

TEST(DType, NamesReadBackAsThemselves) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
    if (!torch_dtype_name(dtype).empty()) {
      EXPECT_EQ(parse_torch_dtype(torch_dtype_name(dtype)), dtype);
      EXPECT_EQ(parse_torch_dtype("torch." + std::string(torch_dtype_name(dtype))), dtype);
    }
  }
  for (int i = static_cast<int>(DType::kQ4_0); i <= static_cast<int>(DType::kQ6_K); ++i) {
    const auto dtype = static_cast<DType>(i);  // a type that neither safetensors nor torch has
    EXPECT_TRUE(is_block_format(dtype));
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), std::nullopt);
    EXPECT_EQ(torch_dtype_name(dtype), "");
  }
  EXPECT_EQ(parse_dtype("I4"), std::nullopt);
  EXPECT_EQ(parse_torch_dtype(""), std::nullopt);
}

TEST(DType, SizesAreExactOrAbsent) {
  const std::vector<std::uint64_t> none;
  const std::vector<std::uint64_t> huge = {1ull << 40, 1ull << 40};
  const std::vector<std::uint64_t> odd = {3};
  EXPECT_EQ(tensor_bytes(DType::kC64, none), 8u);
  EXPECT_EQ(tensor_bytes(DType::kU8, huge), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kF4, odd), std::nullopt);
  const std::vector<std::uint64_t> rows = {3, 256};
  const std::vector<std::uint64_t> cut = {256, 48};  // whole blocks in all, but not in each row
  EXPECT_EQ(tensor_bytes(DType::kQ4_1, rows), 3u * 8 * 20);
  EXPECT_EQ(tensor_bytes(DType::kQ6_K, rows), 3u * 210);
  EXPECT_EQ(tensor_bytes(DType::kQ4_0, cut), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, none), std::nullopt);
  EXPECT_EQ(converted_bytes(3 * 210, DType::kQ6_K, DType::kBF16), 3u * 512);
  EXPECT_EQ(converted_bytes(6, DType::kF16, DType::kF32), 12u);
  EXPECT_TRUE(can_convert(DType::kQ5_K, DType::kF16));
  EXPECT_FALSE(can_convert(DType::kF16, DType::kQ5_K));
  EXPECT_FALSE(can_convert(DType::kQ5_K, DType::kQ4_0));
  EXPECT_TRUE(is_convertible(DType::kF64));
  EXPECT_FALSE(is_convertible(DType::kQ4_0));
  EXPECT_FALSE(is_convertible(DType::kF8E4M3));
}

}  // namespace
}  // namespace berth
