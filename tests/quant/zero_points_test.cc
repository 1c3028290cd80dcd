// What stored zero points come to: GPTQ's by what the files say and what the values are, and those
// of every format whatever dimensions of size 1 its parts are stored with.
#include "runtime/quant/zero_points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/error_of.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

QuantScheme gptq(ZeroPoints said, std::optional<bool> symmetric, unsigned bits = 4) {
  QuantScheme scheme;
  scheme.format = QuantFormat::kGptq;
  scheme.bits = bits;
  scheme.zeros = said;
  scheme.symmetric = symmetric;
  return scheme;
}

// Numbers of `bits` bits each, packed as a part.
ReadPart packed(const std::vector<unsigned>& numbers, unsigned bits) {
  ReadPart part;
  part.stored = true;
  part.position = "model.safetensors: tensor 'a.qzeros': ";
  part.dtype = DType::kI32;
  part.count = numbers.size() * bits / 32;
  part.memory = HostArena(4 * part.count, "a test");
  part.data = part.memory.data();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::uint32_t word = part.word(i * bits / 32);
    word |= numbers[i] << (i * bits % 32);
    std::memcpy(part.memory.data() + 4 * (i * bits / 32), &word, 4);
  }
  return part;
}

struct Read {
  ZeroPointFinding finding;
  std::vector<float> values;
};

// Zero points of a weight with as many rows, and one group.
Read read(const QuantScheme& scheme, const std::vector<unsigned>& stored) {
  QuantLayout layout;
  layout.rows = stored.size();
  Read out{{}, std::vector<float>(stored.size())};
  out.finding = read_zero_points(scheme, layout, packed(stored, scheme.bits), out.values);
  return out;
}

std::vector<unsigned> all(unsigned value) { return std::vector<unsigned>(32, value); }

std::vector<unsigned> uneven() {
  std::vector<unsigned> values = all(7);
  values[3] = 15;
  values[4] = 0;
  return values;
}

TEST(GptqZeroPoints, MeanWhatFilesSay) {
  for (const auto symmetric : {std::optional<bool>(), std::optional(false)}) {
    const Read first = read(gptq(ZeroPoints::kLessOne, symmetric), uneven());
    EXPECT_EQ(first.finding, ZeroPointFinding::kAsSaid);
    EXPECT_EQ(first.values[2], 8);
    EXPECT_EQ(first.values[3], 0);  // stored modulo 16
    EXPECT_EQ(first.values[4], 1);
    const Read second = read(gptq(ZeroPoints::kAsTheyAre, symmetric), uneven());
    EXPECT_EQ(second.finding, ZeroPointFinding::kAsSaid);
    EXPECT_EQ(second.values[2], 7);
    EXPECT_EQ(second.values[3], 15);
    EXPECT_EQ(second.values[4], 0);
  }
}

TEST(GptqZeroPoints, OfSymmetricWeightsAreTheMiddleWhateverFilesSay) {
  for (const unsigned bits : {2u, 4u, 8u}) {
    const unsigned middle = 1u << (bits - 1);
    for (const ZeroPoints said :
         {ZeroPoints::kLessOne, ZeroPoints::kAsTheyAre, ZeroPoints::kUnclear}) {
      for (const auto symmetric : {std::optional<bool>(), std::optional(true)}) {
        const Read less_one = read(gptq(said, symmetric, bits), all(middle - 1));
        EXPECT_THAT(less_one.values, Each(static_cast<float>(middle)));
        EXPECT_EQ(less_one.finding == ZeroPointFinding::kAsSaid, said == ZeroPoints::kLessOne);
        const Read as_they_are = read(gptq(said, symmetric, bits), all(middle));
        EXPECT_THAT(as_they_are.values, Each(static_cast<float>(middle)));
        EXPECT_EQ(as_they_are.finding == ZeroPointFinding::kAsSaid, said == ZeroPoints::kAsTheyAre);
      }
    }
  }
}

TEST(GptqZeroPoints, OfAsymmetricWeightsMeanWhatFilesSayEvenIfAllAreTheMiddle) {
  EXPECT_THAT(read(gptq(ZeroPoints::kLessOne, false), all(8)).values, Each(9));
  EXPECT_THAT(read(gptq(ZeroPoints::kAsTheyAre, false), all(7)).values, Each(7));
}

TEST(GptqZeroPoints, ThatAreUnevenInSymmetricWeightsAreUsedAsStored) {
  const Read odd = read(gptq(ZeroPoints::kLessOne, true), uneven());
  EXPECT_EQ(odd.finding, ZeroPointFinding::kUneven);
  EXPECT_EQ(odd.values[4], 1);
}

TEST(GptqZeroPoints, AreRefusedWhereNothingTellsWhatTheyMean) {
  for (const auto symmetric : {std::optional<bool>(), std::optional(true), std::optional(false)}) {
    EXPECT_THAT(error_of([&] { read(gptq(ZeroPoints::kUnclear, symmetric), uneven()); }),
                AllOf(HasSubstr("model.safetensors: tensor 'a.qzeros': config.json and "),
                      HasSubstr("name different checkpoint formats")));
  }
}

// compressed-tensors 0.20, pack_quantized/base.py: it is not packed, and stays signed.
TEST(ZeroPoints, OfAWholePackedTensorIsSigned) {
  QuantScheme scheme = gptq(ZeroPoints::kLessOne, true);
  scheme.format = QuantFormat::kPacked;
  scheme.grain = ScaleGrain::kTensor;
  ReadPart part = packed({13, 15, 0, 0, 0, 0, 0, 0}, 4);  // the byte 0xFD is -3
  part.dtype = DType::kI8;
  part.count = 1;
  std::vector<float> to(1);
  read_zero_points(scheme, {}, part, to);
  EXPECT_THAT(to, ElementsAre(5));
}

TEST(ZeroPoints, AreRefusedWhereThereAreTooFew) {
  QuantLayout layout;
  layout.rows = 64;
  layout.row_step = 1;
  std::vector<float> to(64);
  for (const QuantFormat format :
       {QuantFormat::kGptq, QuantFormat::kAwq, QuantFormat::kAwqGemv, QuantFormat::kPacked}) {
    QuantScheme scheme = gptq(ZeroPoints::kLessOne, true);
    scheme.format = format;
    EXPECT_THAT(error_of([&] { read_zero_points(scheme, layout, packed(all(8), 4), to); }),
                HasSubstr("holds 4 elements, but 8 are needed"));
  }
}

TEST(ZeroPointNotes, SayOnceWhatHoldsForMany) {
  ZeroPointNotes notes;
  EXPECT_THAT(notes.lines(), IsEmpty());
  const QuantScheme first = gptq(ZeroPoints::kLessOne, true);
  notes.add(first, ZeroPointFinding::kAsSaid, "x");
  EXPECT_THAT(notes.lines(), IsEmpty());
  notes.add(first, ZeroPointFinding::kByValues, "b");
  notes.add(first, ZeroPointFinding::kByValues, "a");
  notes.add(gptq(ZeroPoints::kAsTheyAre, true, 8), ZeroPointFinding::kByValues, "c");
  notes.add(first, ZeroPointFinding::kUneven, "d");
  EXPECT_THAT(
      notes.lines(),
      ElementsAre(
          "the zero points of 2 GPTQ weights ('a' and others) are taken as 8, as in all "
          "symmetric weights, although checkpoint_format gptq would make them 9",
          "the zero points of 1 GPTQ weight ('c') are taken as 128, as in all symmetric "
          "weights, although checkpoint_format gptq_v2 would make them 127",
          "the zero points of 1 GPTQ weight ('d') are not all 8, although quantization_config says "
          "sym: they are used as they are stored"));
}

}  // namespace
}  // namespace berth
