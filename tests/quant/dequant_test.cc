// Dequantisation: against what the formats' references made of small weights
// (make_dequant_goldens.py), and every implementation against the plain loop, in stretches of any
// size.
#include "cuda/dequant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "berth/error.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/model/quant/deduce.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/reader.h"
#include "runtime/io/shard_files.h"
#include "runtime/load/device_sink.h"
#include "runtime/quant/quant_layout.h"
#include "runtime/quant/weight_tables.h"
#include "tests/data_names.h"

namespace berth {

bool dequant_loops_portable(const QuantLayout& layout, const QuantTables& tables, const void* from,
                            std::uint64_t first, std::uint64_t bytes, void* to,
                            FloatFormat to_format);

namespace {

using ::testing::TestWithParam;

constexpr FloatFormat kFormats[] = {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32,
                                    FloatFormat::kF64};

// One quantised weight of a golden file, as the loader would see it.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : checkpoint_(open_checkpoint(std::string(BERTH_SOURCE_DIR "/tests/quant/data/") + name +
                                    ".safetensors")) {
    std::vector<StoredPart> parts;
    ModelTensor tensor;
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i) {
      const TensorInfo& info = checkpoint_.tensors[i];
      if (info.name == "expected.float32") tensor.shape = info.shape;
      if (!info.name.starts_with("expected.")) parts.push_back({info.name, info.dtype, info.shape});
    }
    QuantScheme scheme;
    std::string packed(parts[0].name);
    if (const auto known = deduce_scheme(parts, "weight", tensor.shape, false)) {
      scheme = *known;
      packed = quant_parts(scheme, "weight", tensor.shape, false)[0].name;
    } else {
      scheme.weight = parts[0].dtype;
      scheme.grain = ScaleGrain::kUnscaled;
    }
    if (name.ends_with("v2")) scheme.zeros = ZeroPoints::kAsTheyAre;
    Dequantization made;
    made.parts.fill(kNone);
    for (const StoredPart& part : parts) {
      const std::string stored(part.name);
      if (const auto role = quant_role(scheme, "weight", stored)) {
        made.parts[static_cast<std::size_t>(*role)] = find(stored);
      }
    }
    tensor.source = find(packed);
    made.scheme = add_scheme(tree_, scheme);
    tensor.dequantization = 0;
    quantized_weights(tree_).weights.push_back(made);
    tree_.tensors.push_back(tensor);
    const QuantLayout layout = quant_layout(tree_, 0, tensor.source, checkpoint_);
    const PackedWeight weight{0, tensor.source, made, layout, 1};
    tables_ =
        std::make_unique<WeightTables>(checkpoint_, weight, tree_.quantized->schemes[0],
                                       [&](std::uint32_t, std::uint64_t begin, std::uint64_t end,
                                           std::byte* to) { read(begin, end, to); });
  }

  std::uint32_t find(const std::string& name) const {
    const auto& tensors = checkpoint_.tensors;
    const auto found = std::ranges::find(tensors, name, &TensorInfo::name);
    return found == tensors.end() ? kNone : static_cast<std::uint32_t>(found - tensors.begin());
  }
  std::vector<std::byte> bytes_of(std::uint32_t index) const {
    const TensorInfo& info = checkpoint_.tensors[index];
    std::vector<std::byte> bytes(info.bytes());
    read(info.begin, info.end, bytes.data());
    return bytes;
  }
  std::vector<std::byte> packed() const { return bytes_of(tree_.tensors[0].source); }
  std::uint64_t elements() const { return tree_.tensors[0].elements(); }
  const WeightTables& tables() const { return *tables_; }

 private:
  void read(std::uint64_t begin, std::uint64_t end, std::byte* to) const {
    const Descriptor fd = open_shard(checkpoint_.shards[0]);
    ASSERT_EQ(read_range(*make_pread_reader(fd.get()), begin, end, to, false).reached, end);
  }

  Checkpoint checkpoint_;
  ModelTree tree_;
  std::unique_ptr<WeightTables> tables_;
};

// How many values differ. Any two NaN count as equal, whatever their bits.
std::size_t differences(const std::vector<std::byte>& a, const std::vector<std::byte>& b,
                        FloatFormat format) {
  const std::size_t count = a.size() / float_bytes(format);
  std::vector<double> left(count);
  std::vector<double> right(count);
  cast_reference(a.data(), format, left.data(), FloatFormat::kF64, count);
  cast_reference(b.data(), format, right.data(), FloatFormat::kF64, count);
  std::size_t different = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool same = (std::isnan(left[i]) && std::isnan(right[i])) ||
                      std::memcmp(&left[i], &right[i], sizeof(double)) == 0;
    different += same ? 0 : 1;
  }
  return different;
}

class Goldens : public TestWithParam<std::string> {};

TEST_P(Goldens, GiveTheBitsOfTheReference) {
  const Golden golden(GetParam());
  const std::vector<std::byte> packed = golden.packed();
  const std::map<std::string, FloatFormat> formats{{"expected.bfloat16", FloatFormat::kBF16},
                                                   {"expected.float16", FloatFormat::kF16},
                                                   {"expected.float32", FloatFormat::kF32}};
  for (const auto& [name, format] : formats) {
    const std::vector<std::byte> expected = golden.bytes_of(golden.find(name));
    for (auto* dequantize : {&dequantize_on_host, &dequantize_reference}) {
      std::vector<std::byte> made(expected.size());
      (*dequantize)(golden.tables().layout(), golden.tables().on_host(), packed.data(), 0,
                    packed.size(), made.data(), format);
      EXPECT_EQ(differences(made, expected, format), 0u) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Goldens,
                         ::testing::ValuesIn(testing::data_names("tests/quant/data",
                                                                 ".safetensors")),
                         [](const auto& value) { return value.param; });

// A random weight of one kind, with tables that are as large as its layout needs.
struct Made {
  QuantLayout layout;
  std::vector<std::byte> packed;
  std::vector<float> scales;
  std::vector<float> zeros;
  std::vector<std::uint32_t> groups;
  std::vector<float> lookup;
  std::uint64_t elements = 0;

  QuantTables tables() const {
    return {scales.empty() ? nullptr : scales.data(), zeros.empty() ? nullptr : zeros.data(),
            groups.empty() ? nullptr : groups.data(), lookup.data()};
  }
};

std::uint64_t up(std::uint64_t value, std::uint64_t step) { return (value + step - 1) / step; }

Made made_weight(QuantOrder order, QuantCode code, std::mt19937& random) {
  Made made;
  QuantLayout& layout = made.layout;
  layout.order = order;
  layout.code = code;
  layout.rows = 1 + random() % 90;
  layout.columns = 1 + random() % 1200;
  const unsigned bits = code_bits(code);
  std::uint64_t packed = 0;
  layout.group_columns = 1 + random() % 200;
  switch (order) {
    case QuantOrder::kRows:
      layout.row_values = up(layout.columns * bits, 32) * 32 / bits;
      packed = layout.rows * layout.row_values * bits / 8;
      layout.block_rows = 1 + random() % 40;
      break;
    case QuantOrder::kRowsHigh:
      layout.columns *= layout.rows;
      layout.rows = 1;
      layout.row_values = layout.columns;
      packed = up(layout.columns, 2);
      layout.group_columns = 64;
      break;
    case QuantOrder::kGptq:
      packed = up(layout.columns * bits, 32) * 4 * layout.rows;
      break;
    case QuantOrder::kAwq:
      layout.rows *= 8;
      packed = layout.columns * layout.rows / 2;
      break;
    case QuantOrder::kExperts:
      layout.columns = 32 * (1 + random() % 30);
      layout.expert_rows = layout.rows;
      layout.rows *= 3;
      layout.group_columns = 32;
      packed = layout.rows * layout.columns / 2;
      break;
  }
  const std::uint64_t groups = up(layout.columns, layout.group_columns);
  const bool turned = order == QuantOrder::kGptq || order == QuantOrder::kAwq;
  layout.row_step = turned ? 1 : groups;
  layout.group_step = turned ? layout.rows : 1;
  if (random() % 4 == 0) layout.factor = 0.3f;
  layout.zero = random() % 2 == 0 ? 8.0f : 0.0f;
  layout.arithmetic = kFormats[random() % 3];
  made.elements = layout.rows * layout.columns;
  made.packed.resize(packed);
  for (std::byte& byte : made.packed) byte = static_cast<std::byte>(random());
  std::uniform_real_distribution<float> scale(1e-4f, 2.0f);
  if (random() % 8 != 0) {
    made.scales.resize(layout.rows * groups);
    for (float& value : made.scales) value = scale(random);
    if (random() % 2 == 0) {
      made.zeros.resize(made.scales.size());
      for (float& value : made.zeros) value = static_cast<float>(random() % 16);
    }
    if (order != QuantOrder::kExperts && random() % 3 == 0) {
      made.groups.resize(layout.columns);
      for (std::uint32_t& group : made.groups)
        group = static_cast<std::uint32_t>(random() % groups);
    }
  }
  made.lookup.resize(16);
  for (float& value : made.lookup) value = scale(random);
  return made;
}

struct Kind {
  QuantOrder order;
  QuantCode code;
};
std::vector<Kind> kinds() {
  std::vector<Kind> all;
  for (int order = 0; order <= static_cast<int>(QuantOrder::kExperts); ++order) {
    for (int code = 0; code <= static_cast<int>(QuantCode::kLookup4); ++code) {
      QuantLayout layout;
      layout.order = static_cast<QuantOrder>(order);
      layout.code = static_cast<QuantCode>(code);
      if (can_dequantize(layout)) all.push_back({layout.order, layout.code});
    }
  }
  return all;
}

TEST(Dequantize, GivesTheSameInAnyStretchesByEveryImplementation) {
  std::mt19937 random(11);
  ASSERT_EQ(kinds().size(), 15u);
  for (const Kind& kind : kinds()) {
    for (int round = 0; round < 12; ++round) {
      const Made made = made_weight(kind.order, kind.code, random);
      const FloatFormat format = kFormats[random() % 4];
      const std::size_t bytes = made.elements * float_bytes(format);
      std::vector<std::byte> expected(bytes, std::byte{0xA5});
      std::vector<std::byte> whole = expected;
      std::vector<std::byte> stretches = expected;
      dequantize_reference(made.layout, made.tables(), made.packed.data(), 0, made.packed.size(),
                           expected.data(), format);
      ASSERT_TRUE(dequant_loops_portable(made.layout, made.tables(), made.packed.data(), 0,
                                         made.packed.size(), whole.data(), format));
      const std::uint64_t unit = unit_bytes(kind.order);
      for (std::uint64_t at = 0; at < made.packed.size();) {
        const std::uint64_t left = made.packed.size() - at;
        const std::uint64_t most = 1 + random() % (random() % 2 == 0 ? 64 : 40'000);
        const std::uint64_t count = std::min(left, most * unit);
        // Copied to an odd address, because stretches of a file may have any.
        std::vector<std::byte> stretch(count + 1);
        std::memcpy(stretch.data() + 1, made.packed.data() + at, count);
        dequantize_on_host(made.layout, made.tables(), stretch.data() + 1, at, count,
                           stretches.data(), format);
        at += count;
      }
      const std::string what = "order " + std::to_string(static_cast<int>(kind.order)) + " code " +
                               std::to_string(static_cast<int>(kind.code));
      ASSERT_EQ(differences(whole, expected, format), 0u) << what << ", portable loops";
      ASSERT_EQ(differences(stretches, expected, format), 0u) << what << ", in stretches";
    }
  }
}

TEST(Dequantize, FollowsItsFormulaToTheLastBlockCutShort) {
  // DeepSeek's blocks of 128 x 128 on a weight that they do not divide.
  QuantLayout layout;
  layout.rows = 200;
  layout.columns = layout.row_values = 300;
  layout.block_rows = layout.group_columns = 128;
  layout.row_step = 3;
  layout.group_step = 1;
  const std::vector<float> scales{1, 2, 3, 4, 5, 6};
  const std::vector<std::uint8_t> ones(200 * 300, 0x38);  // 1.0 in E4M3
  std::vector<float> made(ones.size());
  dequantize_on_host(layout, {scales.data()}, ones.data(), 0, ones.size(), made.data(),
                     FloatFormat::kF32);
  for (std::size_t row = 0; row < 200; ++row) {
    for (std::size_t column = 0; column < 300; ++column) {
      ASSERT_EQ(made[row * 300 + column], scales[row / 128 * 3 + column / 128]);
    }
  }
}

TEST(Dequantize, RoundsToItsArithmeticAsTheCastsDo) {
  // Values of every size are the scales of a weight of ones; they are rounded to the format and
  // back.
  std::mt19937 random(2);
  std::vector<float> scales(200'000);
  for (float& value : scales) {
    const auto bits = static_cast<std::uint32_t>(random());
    std::memcpy(&value, &bits, sizeof value);
    if (random() % 2 == 0)
      value = std::ldexp(1.0f + static_cast<float>(bits % 8192) / 8192,
                         -25 + static_cast<int>(bits >> 27));
  }
  QuantLayout layout;
  layout.code = QuantCode::kI8;
  layout.rows = scales.size();
  layout.columns = layout.row_values = 1;
  layout.row_step = 1;
  const std::vector<std::uint8_t> ones(scales.size(), 1);
  for (const FloatFormat arithmetic : {FloatFormat::kBF16, FloatFormat::kF16}) {
    layout.arithmetic = arithmetic;
    std::vector<std::byte> narrow(scales.size() * 2);
    std::vector<std::byte> expected(scales.size() * 4);
    cast_reference(scales.data(), FloatFormat::kF32, narrow.data(), arithmetic, scales.size());
    cast_reference(narrow.data(), arithmetic, expected.data(), FloatFormat::kF32, scales.size());
    for (auto* dequantize : {&dequantize_on_host, &dequantize_reference}) {
      std::vector<std::byte> made(expected.size());
      (*dequantize)(layout, {scales.data()}, ones.data(), 0, ones.size(), made.data(),
                    FloatFormat::kF32);
      EXPECT_EQ(differences(made, expected, FloatFormat::kF32), 0u);
    }
  }
}

TEST(Dequantize, RefusesWhatItHasNoKernelFor) {
  QuantLayout layout;
  layout.order = QuantOrder::kAwq;
  layout.code = QuantCode::kU8;
  EXPECT_FALSE(can_dequantize(layout));
  EXPECT_THROW(dequantize_on_host(layout, {}, "abcd", 0, 4, nullptr, FloatFormat::kF32), Error);
}

}  // namespace
}  // namespace berth
