// GGUF tensors in block formats, loaded in every way: as stored and as floats, with rows put back
// into their order, in chunks that end within rows and blocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <random>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/block_format.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/verify/checksums.h"
#include "tests/error_of.h"
#include "tests/load/support.h"
#include "tests/model/gguf_writer.h"

namespace berth {
namespace {

using ::testing::AllOf;
using testing::error_of;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::TempFolder;

constexpr std::uint64_t kHidden = 512, kHeads = 4, kHeadSize = 64, kLayers = 5;
// The format of each layer: ggml's number for it, our dtype, the kernels' name.
struct Type {
  std::uint32_t number;
  DType dtype;
};
constexpr Type kTypes[kLayers] = {
    {2, DType::kQ4_0}, {14, DType::kQ6_K}, {8, DType::kQ8_0}, {1, DType::kF16}, {12, DType::kQ4_K}};

std::string random_bytes(std::uint64_t count, std::mt19937& random) {
  std::string bytes(count, 0);
  for (char& byte : bytes) byte = static_cast<char>(random() & 0x3F);  // halves stay finite
  return bytes;
}

// The bytes of every tensor as in the file, by its name in transformers.
using Stored = std::map<std::string, std::string>;

Stored write_llama(const std::filesystem::path& path) {
  std::mt19937 random(3);
  GgufWriter file;
  file.text("general.architecture", "llama");
  for (const auto& [key, value] :
       {std::pair("embedding_length", kHidden), std::pair("block_count", kLayers),
        std::pair("context_length", kHidden), std::pair("feed_forward_length", kHidden),
        std::pair("attention.head_count", kHeads), std::pair("attention.head_count_kv", kHeads),
        std::pair("attention.key_length", kHeadSize)}) {
    file.u32("llama." + std::string(key), static_cast<std::uint32_t>(value));
  }
  Stored stored;
  const auto add = [&](const std::string& name, const std::string& ours, std::uint64_t rows,
                       std::uint64_t columns, Type type) {
    const Shape shape = columns == 0 ? Shape{rows} : Shape{rows, columns};
    const std::string bytes = random_bytes(*tensor_bytes(type.dtype, shape), random);
    file.tensor(name, type.number, {shape.begin(), shape.end()}, bytes);
    stored[ours] = bytes;
  };
  add("token_embd.weight", "model.embed_tokens.weight", 70, kHidden, {8, DType::kQ8_0});
  add("output_norm.weight", "model.norm.weight", kHidden, 0, {0, DType::kF32});
  for (std::uint64_t i = 0; i < kLayers; ++i) {
    const std::string from = "blk." + std::to_string(i) + ".";
    const std::string to = "model.layers." + std::to_string(i) + ".";
    add(from + "attn_norm.weight", to + "input_layernorm.weight", kHidden, 0, {0, DType::kF32});
    add(from + "ffn_norm.weight", to + "post_attention_layernorm.weight", kHidden, 0,
        {0, DType::kF32});
    for (const char* part : {"q", "k", "v"}) {
      add(from + "attn_" + part + ".weight", to + "self_attn." + part + "_proj.weight",
          kHeads * kHeadSize, kHidden, kTypes[i]);
    }
    add(from + "attn_output.weight", to + "self_attn.o_proj.weight", kHidden, kHeads * kHeadSize,
        kTypes[i]);
    for (const char* part : {"gate", "up", "down"}) {
      add(from + "ffn_" + part + ".weight", to + "mlp." + part + "_proj.weight", kHidden, kHidden,
          kTypes[i]);
    }
  }
  file.write(path);
  return stored;
}

// Converts `bytes` to `dtype`, by the reference.
std::string converted(const std::string& bytes, DType stored, DType dtype) {
  if (stored == dtype) return bytes;
  const auto format = dtype == DType::kBF16 ? FloatFormat::kBF16 : FloatFormat::kF32;
  std::string out(converted_bytes(bytes.size(), stored, dtype), 0);
  if (is_block_format(stored)) {
    const auto block =
        static_cast<BlockFormat>(static_cast<int>(stored) - static_cast<int>(DType::kQ4_0));
    dequantize_reference(bytes.data(), block, out.data(), format,
                         bytes.size() / block_size(block).bytes);
  } else {
    const auto from = stored == DType::kF16 ? FloatFormat::kF16 : FloatFormat::kF32;
    cast_reference(bytes.data(), from, out.data(), format, bytes.size() / float_bytes(from));
  }
  return out;
}

// Undoes the interleaving of rows: stored row 2 i of a head is its row i, and stored row 2 i + 1 is
// its row i + half.
std::string rows_in_order(const std::string& bytes) {
  const std::size_t row = bytes.size() / (kHeads * kHeadSize);
  std::string out;
  for (std::uint64_t i = 0; i < kHeads * kHeadSize; ++i) {
    const std::uint64_t head = i / kHeadSize * kHeadSize, r = i % kHeadSize, half = kHeadSize / 2;
    out += bytes.substr((head + (r < half ? 2 * r : 2 * (r - half) + 1)) * row, row);
  }
  return out;
}

Plan plan_by_turns(const Model& model, CpuMemory mode) {
  Plan plan;
  plan.cpu_memory = mode;
  for (const char* name : {"0", "cpu", "disk"}) {
    DeviceLedger device;
    device.name = name;
    device.kind = plan.devices.empty()       ? DeviceKind::kCuda
                  : plan.devices.size() == 1 ? DeviceKind::kCpu
                                             : DeviceKind::kDisk;
    device.capacity = 1u << 30;
    plan.devices.push_back(device);
  }
  for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    plan.tensor_device.push_back(!tensor.persistent        ? kNone
                                 : tensor.tied_to != kNone ? plan.tensor_device[tensor.tied_to]
                                                           : id % 3);
  }
  return plan;
}

TEST(GgufLoad, DeliversWhatIsStoredInEveryType) {
  const TempFolder folder;
  const auto path = folder.path() / "model.gguf";
  const Stored stored = write_llama(path);
  for (const std::optional<DType> dtype :
       {std::optional<DType>(), std::optional(DType::kBF16), std::optional(DType::kF32)}) {
    const Model model = open_model(path, dtype);
    for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
      for (const std::uint64_t staging : {256u << 10, 128u << 20}) {
        const Plan plan = plan_by_turns(model, mode);
        LoadOptions options;
        options.emulate = true;
        options.staging = staging;
        const auto loaded = load(model, plan, options, LoadEnvironment{});
        std::size_t compared = 0;
        for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
          const ModelTensor& tensor = model.tree.tensors[id];
          if (!tensor.persistent || tensor.tied_to != kNone) continue;
          std::string expected =
              converted(stored.at(std::string(tensor.name)), tensor.stored, tensor.dtype);
          const bool rotary = tensor.name.find("q_proj") != tensor.name.npos ||
                              tensor.name.find("k_proj") != tensor.name.npos;
          if (rotary) expected = rows_in_order(expected);
          const LoadedTensor& held = loaded->tensor(id);
          ASSERT_EQ(tensor.dtype, dtype.value_or(tensor.stored));
          ASSERT_EQ(held.bytes, expected.size()) << tensor.name;
          const HostBlock block = held.data ? HostBlock{} : loaded->fetch(id);
          const void* data = held.data ? static_cast<const void*>(held.data) : block.data.get();
          EXPECT_EQ(std::memcmp(data, expected.data(), expected.size()), 0) << tensor.name;
          ++compared;
        }
        EXPECT_EQ(compared, stored.size());
      }
    }
  }
}

// Checksums are of the bytes in the file, whatever these are converted to.
TEST(GgufLoad, IsVerifiedAsItIsStored) {
  const TempFolder folder;
  const auto path = folder.path() / "model.gguf";
  write_llama(path);
  LoadOptions options;
  options.emulate = true;
  options.staging = 256u << 10;
  const Checkpoint checkpoint = *open_model(path, std::nullopt).checkpoint;
  options.verify = folder.path() / "checksums.json";
  std::ofstream(options.verify) << checksum_text(checkpoint, options);
  const auto verified = [&](std::optional<DType> dtype, CpuMemory mode) {
    const Model model = open_model(path, dtype);
    return load(model, plan_by_turns(model, mode), options, LoadEnvironment{})
        ->report()
        .tensors_verified;
  };
  const auto flip = [&](std::string_view name) {
    const auto tensor = std::ranges::find(checkpoint.tensors, name, &TensorInfo::name);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    const auto at = static_cast<std::streamoff>(tensor->end - 1);
    const int byte = file.seekg(at).get();
    file.seekp(at).put(static_cast<char>(byte ^ 1));
  };
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::kBF16)}) {
    for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
      EXPECT_GT(verified(dtype, mode), 20u);
      for (const char* name : {"model.layers.0.self_attn.q_proj.weight", "model.norm.weight"}) {
        flip(name);
        EXPECT_THAT(error_of([&] { verified(dtype, mode); }),
                    AllOf(HasSubstr(name), HasSubstr("the checksum differs")));
        flip(name);
      }
    }
  }
}

// Only tensors whose rows are interleaved are reordered; all others stay mapped.
TEST(GgufLoad, OnlyWhatIsInAnotherOrderIsCopied) {
  const TempFolder folder;
  const auto path = folder.path() / "model.gguf";
  const Stored stored = write_llama(path);
  const Model model = open_model(path, std::nullopt);
  Plan plan = plan_by_turns(model, CpuMemory::kMmap);
  for (std::uint32_t& device : plan.tensor_device) {
    if (device != kNone) device = 1;
  }
  std::uint64_t rotary = 0;
  for (const auto& [name, bytes] : stored) {
    if (name.find("q_proj") != name.npos || name.find("k_proj") != name.npos) {
      rotary += bytes.size();
    }
  }
  const auto loaded = load(model, plan, {}, LoadEnvironment{});
  EXPECT_EQ(loaded->report().bytes_read, rotary);
  EXPECT_EQ(loaded->report().bytes_mapped, model.checkpoint->bytes() - rotary);
}

}  // namespace
}  // namespace berth
