#include "tests/program/made_model.h"

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "berth/checkpoint.h"
#include "berth/planner.h"
#include "planner/checkpoint/open/open_checkpoint.h"

namespace berth::testing {
namespace {

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(BERTH_SOURCE_DIR) / "tests/exec/data" / name;
}

template <typename Number>
std::vector<Number> numbers(const std::string& line) {
  std::istringstream in(line);
  std::vector<Number> values;
  for (Number value; in >> value;) values.push_back(value);
  return values;
}

}  // namespace

float made_weight(const std::string& name, std::uint64_t index) {
  std::uint64_t seed = 0xCBF29CE484222325u;
  for (const char c : name) seed = (seed ^ static_cast<std::uint8_t>(c)) * 0x100000001B3u;
  std::uint64_t z = seed + index + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  const float x = static_cast<float>(z >> 48) / 65536.0F - 0.5F;
  const bool norm = name.ends_with(".weight") && (name.find("norm") != std::string::npos ||
                                                  name.find("ln_") != std::string::npos);
  return norm ? 1.0F + x / 4 : x / 2;
}

Plan made_plan(const ModelTree& tree, const Where& where) {
  Plan plan;
  for (const std::string& name : kDevices) {
    DeviceLedger device;
    device.name = name;
    device.kind = name == "cpu"    ? DeviceKind::kCpu
                  : name == "disk" ? DeviceKind::kDisk
                                   : DeviceKind::kCuda;
    plan.devices.push_back(device);
  }
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    const std::uint32_t device = !tree.tensors[id].persistent ? kNone : where(tree.tensors[id], id);
    plan.tensor_device.push_back(device);
    if (device != kNone) plan.devices[device].weights += tree.tensors[id].bytes();
  }
  return plan;
}

MadeLoad::MadeLoad(const ModelTree& tree, const Plan& plan)
    : tree_(tree), memory_(tree.tensors.size()) {
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    const ModelTensor& tensor = tree.tensors[id];
    LoadedTensor loaded;
    loaded.id = id;
    loaded.dtype = tensor.dtype;
    loaded.shape = tensor.shape.data();
    loaded.rank = tensor.shape.size();
    loaded.device = plan.tensor_device[id];
    loaded.bytes = tensor.bytes();
    if (tensor.persistent && loaded.device != kDisk) {
      memory_[id] = bytes_of(tensor);
      loaded.data = memory_[id].data();
      loaded.emulated = plan.devices[loaded.device].kind == DeviceKind::kCuda;
    }
    tensors_.push_back(loaded);
  }
}

std::vector<std::byte> MadeLoad::bytes_of(const ModelTensor& tensor) const {
  const std::string name(tensor.tied_to == kNone ? tensor.name
                                                 : tree_.tensors[tensor.tied_to].name);
  std::vector<std::byte> bytes(tensor.bytes());
  const std::size_t width = dtype_bits(tensor.dtype) / 8;
  for (std::uint64_t i = 0; i < bytes.size() / width; ++i) {
    std::uint32_t bits = 0;
    const float value = made_weight(name, i);
    std::memcpy(&bits, &value, sizeof bits);
    if (tensor.dtype == DType::kBF16) bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    std::memcpy(&bytes[i * width], &bits, width);
  }
  return bytes;
}

HostBlock MadeLoad::fetch(TensorId id) const {
  const auto bytes = bytes_of(tree_.tensors.at(id));
  ++fetched_;
  most_live_ = std::max(most_live_, ++live_);
  std::shared_ptr<std::byte[]> block(new std::byte[bytes.size()], [this](const std::byte* memory) {
    --live_;
    delete[] memory;
  });
  std::memcpy(block.get(), bytes.data(), bytes.size());
  return {block, bytes.size()};
}

void MadeLoad::set_first(TensorId id, float value) {
  std::memcpy(memory_.at(id).data(), &value, sizeof value);
}

Expected read_expected(const std::string& name) {
  std::ifstream in(data(name) / "expected.txt");
  Expected expected;
  std::string line;
  std::getline(in, line);
  expected.prompt = numbers<std::int64_t>(line);
  std::getline(in, line);
  expected.greedy = numbers<std::int64_t>(line);
  while (std::getline(in, line)) expected.logits.push_back(numbers<float>(line));
  return expected;
}

Model open_made(const std::string& name) { return open_model(data(name) / "config.json", {}); }

std::vector<std::vector<float>> read_logits(const std::filesystem::path& file) {
  const Checkpoint checkpoint = open_checkpoint(file);
  const TensorInfo& tensor = checkpoint.tensors.at(0);
  if (tensor.name != "logits" || tensor.dtype != DType::kF32 || tensor.shape.size() != 2) return {};
  std::ifstream in(file, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(tensor.begin));
  std::vector<std::vector<float>> logits(tensor.shape[0], std::vector<float>(tensor.shape[1]));
  for (auto& row : logits) {
    in.read(reinterpret_cast<char*>(row.data()),
            static_cast<std::streamsize>(row.size() * sizeof(float)));
  }
  return logits;
}

}  // namespace berth::testing
