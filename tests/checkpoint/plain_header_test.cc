// Headers in the reference writer's spelling: what is read from them, and that nothing is accepted
// that the JSON parser would refuse.
#include "planner/checkpoint/safetensors/plain_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "planner/checkpoint/safetensors/header.h"

namespace berth {
namespace {

using ::testing::ElementsAre;

// A text with padding after it, as the reader needs it. The padding is digits, which the reader
// must not take for the text's own.
class Padded {
 public:
  explicit Padded(const std::string& json)
      : text_(json + std::string(PlainJson::kPadding, '7')), size_(json.size()) {}
  std::string_view json() const { return {text_.data(), size_}; }

 private:
  std::string text_;
  std::size_t size_;
};

struct Read {
  std::vector<PlainEntry> entries;
  bool complete = false;
};

Read read(const Padded& text) {
  Read out;
  PlainHeader header(text.json());
  PlainEntry entry;
  while (header.next(entry)) out.entries.push_back(entry);
  out.complete = header.complete();
  return out;
}

bool reads(const std::string& json) {
  const Padded text(json);
  return read(text).complete;
}

std::string with_offset(const std::string& end) {
  return R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,)" + end + "]}}";
}

TEST(PlainHeader, ReadsWhatTheReferenceWriterWrites) {
  const Padded text(
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","shape":[2048,7168],)"
      R"("data_offsets":[0,29360128]},"b":{"dtype":"F32","shape":[],)"
      R"("data_offsets":[29360128,29360132]}}    )");
  const Read out = read(text);
  EXPECT_TRUE(out.complete);
  ASSERT_EQ(out.entries.size(), 2u);
  EXPECT_EQ(out.entries[0].name, "a.weight");
  EXPECT_EQ(out.entries[0].dtype, "BF16");
  EXPECT_THAT(out.entries[0].shape, ElementsAre(2048, 7168));
  EXPECT_EQ(out.entries[0].begin, 0u);
  EXPECT_EQ(out.entries[0].end, 29360128u);
  EXPECT_TRUE(out.entries[1].shape.empty());
  EXPECT_EQ(out.entries[1].end, 29360132u);
}

TEST(PlainHeader, ReadsNumbersOfEveryLength) {
  std::string digits;
  for (int i = 1; i <= 16; ++i) {
    digits += static_cast<char>('0' + i % 10);
    const Padded text(with_offset(digits));
    const Read out = read(text);
    ASSERT_TRUE(out.complete) << digits;
    EXPECT_EQ(out.entries[0].end, std::stoull(digits));
  }
  EXPECT_TRUE(reads(with_offset("0")));
  EXPECT_FALSE(reads(with_offset("12345678901234567")));  // left to the JSON parser
}

TEST(PlainHeader, LeavesOtherSpellingsToTheParser) {
  for (const char* number : {"", "01", "00", "-1", "+1", "1.0", "1e3", " 1", "1 ", "0x1", "a", "/",
                             ":", "1\xb1", "1\n"}) {
    EXPECT_FALSE(reads(with_offset(number))) << number;
  }
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_TRUE(reads(R"({"a":)" + entry + "}"));
  for (const char* name : {"\\u0061", "caf\xc3\xa9", "tab\there", "0123456\\", "01234567\x1f"}) {
    EXPECT_FALSE(reads("{\"" + std::string(name) + "\":" + entry + "}")) << name;
  }
  EXPECT_FALSE(reads(R"({ "a":)" + entry + "}"));
  EXPECT_FALSE(reads(R"({"a": )" + entry + "}"));
  EXPECT_FALSE(reads(R"({"a":)" + entry + "}\n"));
  EXPECT_FALSE(reads(R"({"a":)" + entry + "}}"));
  EXPECT_FALSE(reads(R"({"a":)" + entry + ",}"));
  EXPECT_FALSE(reads(R"({"a":)" + entry));
  EXPECT_FALSE(reads(R"({"a":{"shape":[1],"dtype":"U8","data_offsets":[0,1]}})"));
  EXPECT_FALSE(reads(R"({"a":)" + entry + R"(,"__metadata__":{}})"));
  EXPECT_FALSE(reads(R"({"__metadata__":{"a":"b","a":"c"},"a":)" + entry + "}"));
  EXPECT_FALSE(reads("{}"));
  EXPECT_FALSE(reads(""));
}

// The tensors of a header, or nothing if it is refused. If a space follows the brace, the JSON
// parser reads the header. Offsets in the file depend on the header's length, so whoever adds that
// space takes one away at the end.
std::optional<std::vector<TensorInfo>> parse(const std::string& json, std::uint64_t data) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(json.size() >> (8 * i));
  file += json;
  std::vector<TensorInfo> tensors;
  try {
    parse_safetensors_header(file, file.size() + data, 0, "test", {}, tensors);
  } catch (const Error&) {
    return std::nullopt;
  }
  return tensors;
}

TEST(PlainHeader, AcceptsNothingThatTheParserRefuses) {
  std::mt19937 random(20261126);
  const auto upto = [&](std::size_t n) { return static_cast<std::uint32_t>(random() % n); };
  const std::string bits = "{}[],:\"\\0123456789 aF\x01\x80";
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string json = upto(2) == 0 ? R"({"__metadata__":{"format":"pt"},)" : "{";
    std::uint64_t data = 0;
    const std::uint32_t tensors = 1 + upto(4);
    for (std::uint32_t i = 0; i < tensors; ++i) {
      const std::uint64_t rows = upto(1000);
      json += (i == 0 ? "\"t" : ",\"t") + std::to_string(upto(20)) +
              R"(":{"dtype":"F32","shape":[)" + std::to_string(rows) + R"(,3],"data_offsets":[)" +
              std::to_string(data) + "," + std::to_string(data + rows * 12) + "]}";
      data += rows * 12;
    }
    json += "} ";
    if (upto(2) == 0) json[upto(json.size())] = bits[upto(bits.size())];
    if (json[0] != '{') continue;
    const auto plain = parse(json, data);
    // The same header in another spelling: the space at its end moves to the front.
    const bool spare = json.back() == ' ';
    const auto parsed = parse("{ " + json.substr(1, json.size() - (spare ? 2 : 1)), data);
    ASSERT_EQ(plain.has_value(), parsed.has_value()) << json;
    if (!plain) continue;
    ++accepted;
    ASSERT_EQ(plain->size(), parsed->size()) << json;
    for (std::size_t i = 0; i < plain->size(); ++i) {
      const TensorInfo& a = (*plain)[i];
      const TensorInfo& b = (*parsed)[i];
      EXPECT_EQ(a.name, b.name);
      EXPECT_EQ(a.dtype, b.dtype);
      EXPECT_EQ(a.shape, b.shape);
      EXPECT_EQ(a.end - a.begin, b.end - b.begin);
    }
  }
  EXPECT_GT(accepted, 5'000);
}

}  // namespace
}  // namespace berth
