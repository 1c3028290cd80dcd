// Compares the headers that Berth writes with the reference implementation's.
#include <gtest/gtest.h>

#include "berth/checkpoint.h"
#include "planner/checkpoint/safetensors/header.h"
#include "planner/checkpoint/safetensors/layout.h"

namespace berth {
namespace {

// What safetensors.torch.save, release 0.8, writes for these tensors and metadata.
TEST(SafetensorsLayout, IsByteForByteTheReferenceHeader) {
  const OutputTensor tensors[] = {{"a", DType::kU8, {3}},
                                  {"z", DType::kF32, {2, 1}},
                                  {"b\"\\\n\x01\xc3\xa9", DType::kBF16, {}},
                                  {"e", DType::kI64, {0}},
                                  {"c", DType::kF32, {1}}};
  const SafetensorsLayout layout = lay_out_safetensors(tensors);
  const std::string json =
      R"({"__metadata__":{"format":"pt"},"e":{"dtype":"I64","shape":[0],"data_offsets":[0,0]},)"
      R"("c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
      R"("z":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},)"
      "\"b\\\"\\\\\\n\\u0001\xc3\xa9\":"
      R"({"dtype":"BF16","shape":[],"data_offsets":[12,14]},)"
      R"("a":{"dtype":"U8","shape":[3],"data_offsets":[14,17]}})";
  EXPECT_EQ(layout.header.substr(8, json.size()), json);
  EXPECT_EQ(layout.header.size() % 8, 0u);
  EXPECT_EQ(layout.header.find_first_not_of(' ', 8 + json.size()), std::string::npos);
  EXPECT_EQ(layout.file_bytes, layout.header.size() + 17);
  EXPECT_EQ(layout.begin[1], layout.header.size() + 4);

  // Berth's own reader accepts it.
  std::vector<TensorInfo> read;
  parse_safetensors_header(layout.header, layout.file_bytes, 0, "f", {}, read);
  ASSERT_EQ(read.size(), 5u);
  EXPECT_EQ(read[3].name, tensors[2].name);
}

TEST(SafetensorsLayout, IndexIsSortedAndSumsUp) {
  const OutputTensor tensors[] = {{"b", DType::kF32, {2}}, {"a", DType::kU8, {3}}};
  const std::string shards[] = {"model-00001-of-00002.safetensors",
                                "model-00002-of-00002.safetensors"};
  EXPECT_EQ(safetensors_index(tensors, shards), R"({
  "metadata": {
    "total_size": 11
  },
  "weight_map": {
    "a": "model-00002-of-00002.safetensors",
    "b": "model-00001-of-00002.safetensors"
  }
}
)");
}

}  // namespace
}  // namespace berth
