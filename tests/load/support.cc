#include "tests/load/support.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <ostream>
#include <thread>
#include <tuple>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "berth/planner.h"
#include "cuda/cast.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "runtime/io/engines.h"
#include "runtime/io/reader.h"
#include "runtime/io/shard_files.h"
#include "tests/instance_share.h"

namespace berth::testing {
namespace {

namespace fs = std::filesystem;

FloatFormat format_of(DType dtype) {
  if (dtype == DType::kBF16) return FloatFormat::kBF16;
  if (dtype == DType::kF16) return FloatFormat::kF16;
  return dtype == DType::kF32 ? FloatFormat::kF32 : FloatFormat::kF64;
}

std::uint64_t elements(const TestTensor& tensor) {
  std::uint64_t count = 1;
  for (const std::uint64_t extent : tensor.shape) count *= extent;
  return count;
}

void write_shard(const fs::path& file, std::uint32_t shard, std::vector<TestTensor>& tensors,
                 std::mt19937& random, bool odd_header) {
  std::string header = "{";
  std::vector<char> data;
  for (TestTensor& tensor : tensors) {
    if (tensor.shard != shard || tensor.tied_to >= 0) continue;
    tensor.bytes.resize(elements(tensor) * dtype_bits(tensor.stored) / 8);
    for (std::size_t i = 0; i < tensor.bytes.size(); i += 4) {
      const auto word = static_cast<std::uint32_t>(random());
      std::memcpy(tensor.bytes.data() + i, &word,
                  std::min<std::size_t>(4, tensor.bytes.size() - i));
    }
    std::string shape;
    for (const std::uint64_t extent : tensor.shape) {
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    }
    header += (header.size() > 1 ? ",\"" : "\"") + tensor.name + R"(":{"dtype":")" +
              std::string(dtype_name(tensor.stored)) + R"(","shape":[)" + shape +
              R"(],"data_offsets":[)" + std::to_string(data.size()) + "," +
              std::to_string(data.size() + tensor.bytes.size()) + "]}";
    data.insert(data.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  if (odd_header) header.append(1 + random() % 7, ' ');
  const std::uint64_t length = header.size();
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << header;
  out.write(data.data(), static_cast<std::streamsize>(data.size()));
}

std::string shard_name(std::uint32_t shard, std::uint32_t shards) {
  if (shards == 1) return "model.safetensors";
  const auto digits = [](std::uint32_t n) {
    const std::string text = std::to_string(n);
    return std::string(5 - text.size(), '0') + text;
  };
  return "model-" + digits(shard + 1) + "-of-" + digits(shards) + ".safetensors";
}

std::size_t entries(const char* folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "berth-XXXXXX").string();
  if (!mkdtemp(name.data())) throw Error("cannot make a temporary folder");
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Model write_model(const fs::path& folder, std::vector<TestTensor>& tensors, std::uint32_t shards,
                  std::mt19937& random, bool odd_headers) {
  for (std::uint32_t shard = 0; shard < shards; ++shard) {
    write_shard(folder / shard_name(shard, shards), shard, tensors, random, odd_headers);
  }
  Model model;
  model.path = folder;
  model.checkpoint = open_checkpoint(folder);
  std::map<std::string, std::uint32_t> sources;
  for (std::uint32_t i = 0; i < model.checkpoint->tensors.size(); ++i) {
    sources[model.checkpoint->tensors[i].name] = i;
  }
  model.tree.name = "test";
  model.tree.modules.push_back({});
  for (TestTensor& tensor : tensors) {
    if (tensor.tied_to >= 0) {
      const TestTensor& root = tensors[static_cast<std::size_t>(tensor.tied_to)];
      tensor.stored = root.stored;
      tensor.dtype = root.dtype;
      tensor.shape = root.shape;
      tensor.bytes = root.bytes;
    }
    ModelTensor added;
    added.name = model.tree.names.add(tensor.name);
    added.stored = tensor.stored;
    added.dtype = tensor.dtype;
    added.shape = tensor.shape;
    added.module = 0;
    if (tensor.tied_to >= 0) {
      added.tied_to = static_cast<TensorId>(tensor.tied_to);
    } else {
      added.source = sources.at(tensor.name);
    }
    model.tree.modules[0].tensors.push_back(static_cast<TensorId>(model.tree.tensors.size()));
    model.tree.tensors.push_back(added);
  }
  return model;
}

void share_bytes(Model& model, std::vector<TestTensor>& tensors, std::mt19937& random) {
  std::vector<TensorInfo>& stored = model.checkpoint->tensors;
  std::vector<bool> is_view(tensors.size());
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    TestTensor& view = tensors[i];
    const std::size_t other = random() % i;
    const TestTensor& whole = tensors[other];
    if (random() % 3 != 0 || view.tied_to >= 0 || whole.tied_to >= 0 || is_view[other] ||
        view.shard != whole.shard || view.bytes.empty() || view.bytes.size() > whole.bytes.size()) {
      continue;
    }
    is_view[i] = true;
    constexpr std::uint64_t kStep = 8;  // whole elements of every dtype
    const std::uint64_t at =
        random() % ((whole.bytes.size() - view.bytes.size()) / kStep + 1) * kStep;
    view.bytes.assign(whole.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                      whole.bytes.begin() + static_cast<std::ptrdiff_t>(at + view.bytes.size()));
    TensorInfo& info = stored[model.tree.tensors[i].source];
    info.begin = stored[model.tree.tensors[other].source].begin + at;
    info.end = info.begin + view.bytes.size();
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {  // tied tensors come after these
    if (tensors[i].tied_to >= 0) {
      tensors[i].bytes = tensors[static_cast<std::size_t>(tensors[i].tied_to)].bytes;
    }
  }
  std::ranges::stable_sort(stored, [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.shard, a.begin, a.end) < std::tie(b.shard, b.begin, b.end);
  });
  std::map<std::string, std::uint32_t> sources;
  for (std::uint32_t i = 0; i < stored.size(); ++i) sources[stored[i].name] = i;
  for (ModelTensor& tensor : model.tree.tensors) {
    if (tensor.source != kNone) tensor.source = sources.at(std::string(tensor.name));
  }
}

Plan make_test_plan(const Model& model, const std::vector<TestTensor>& tensors, CpuMemory mode) {
  Plan plan;
  const std::pair<const char*, DeviceKind> devices[] = {{"0", DeviceKind::kCuda},
                                                        {"1", DeviceKind::kCuda},
                                                        {"cpu", DeviceKind::kCpu},
                                                        {"disk", DeviceKind::kDisk}};
  for (const auto& [name, kind] : devices) {
    DeviceLedger ledger;
    ledger.name = name;
    ledger.kind = kind;
    ledger.capacity = 1ull << 40;
    plan.devices.push_back(ledger);
  }
  plan.cpu_memory = mode;
  plan.tensor_device.resize(model.tree.tensors.size(), kNone);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::uint32_t d = 0; d < plan.devices.size(); ++d) {
      if (plan.devices[d].name == tensors[i].device) plan.tensor_device[i] = d;
    }
  }
  return plan;
}

std::vector<char> in_memory(const TestTensor& tensor) {
  if (tensor.stored == tensor.dtype) return tensor.bytes;
  const std::uint64_t count = elements(tensor);
  std::vector<char> result(count * dtype_bits(tensor.dtype) / 8);
  cast_reference(tensor.bytes.data(), format_of(tensor.stored), result.data(),
                 format_of(tensor.dtype), count);
  return result;
}

void expect_loaded(const Model& model, const Plan& plan, const std::vector<TestTensor>& tensors,
                   const LoadedModel& loaded) {
  for (TensorId id = 0; id < tensors.size(); ++id) {
    const LoadedTensor& tensor = loaded.tensor(id);
    const std::vector<char> expected = in_memory(tensors[id]);
    SCOPED_TRACE(tensors[id].name + " on " + tensors[id].device);
    EXPECT_EQ(tensor.dtype, tensors[id].dtype);
    EXPECT_EQ(tensor.device, plan.tensor_device[id]);
    ASSERT_EQ(Shape(tensor.shape, tensor.shape + tensor.rank), model.tree.tensors[id].shape);
    if (tensors[id].device == "disk") {
      EXPECT_EQ(tensor.data, nullptr);
      const HostBlock block = loaded.fetch(id);
      ASSERT_EQ(block.bytes, expected.size());
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                             reinterpret_cast<const char*>(block.data.get())));
      continue;
    }
    ASSERT_EQ(tensor.bytes, expected.size());
    const std::uint64_t element = std::max(1u, dtype_bits(tensor.dtype) / 8);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) % element, 0u);
    EXPECT_TRUE(expected.empty() ||
                std::memcmp(expected.data(), tensor.data, expected.size()) == 0);
  }
}

std::vector<TestTensor> random_tensors(std::mt19937& random, std::size_t count,
                                       std::uint32_t shards,
                                       const std::vector<std::string>& devices, bool convert) {
  constexpr DType kStored[] = {DType::kBF16, DType::kF16, DType::kF32,   DType::kF64,
                               DType::kU8,   DType::kI64, DType::kF8E4M3};
  constexpr DType kFloats[] = {DType::kBF16, DType::kF16, DType::kF32, DType::kF64};
  std::vector<TestTensor> tensors(count);
  for (std::size_t i = 0; i < count; ++i) {
    TestTensor& tensor = tensors[i];
    tensor.name = "layer." + std::to_string(i) + ".weight";
    tensor.stored = kStored[random() % std::size(kStored)];
    tensor.dtype = tensor.stored;
    if (convert && is_convertible(tensor.stored)) tensor.dtype = kFloats[random() % 4];
    tensor.shard = static_cast<std::uint32_t>(random() % shards);
    // Mostly small; some empty; some larger than a block, a few larger than a small chunk.
    const std::uint64_t sizes[] = {0, 1, 3, 100, 1000, 5000, 40'000};
    tensor.shape = {sizes[random() % std::size(sizes)] + random() % 7, 1 + random() % 2};
    tensor.device = devices[random() % devices.size()];
    if (i > 4 && random() % 9 == 0) {
      tensor.tied_to = static_cast<int>(random() % 4);
      if (tensors[static_cast<std::size_t>(tensor.tied_to)].tied_to >= 0) tensor.tied_to = -1;
    }
  }
  return tensors;
}

std::vector<IoEngine> all_engines() {
  std::vector<IoEngine> engines;
  for (const IoEngineRow& row : kIoEngines) engines.push_back(row.engine);
  return engines;
}

bool is_available(IoEngine engine) {
  if (engine != IoEngine::kUring) return true;
  try {
    return UringPool::create() != nullptr;
  } catch (const Error&) {
    return false;
  }
}

std::string engine_test_name(const ::testing::TestParamInfo<IoEngine>& info) {
  return std::string(io_engine_name(info.param));
}

std::size_t open_descriptors() { return entries("/proc/self/fd"); }

std::size_t running_threads() {
  // A sanitizer starts a thread of its own when the first thread is started.
  static const bool first = (std::thread([] {}).join(), true);
  static_cast<void>(first);
  // The kernel takes a joined thread off the list a moment after the join.
  std::size_t threads = entries("/proc/self/task");
  for (int look = 0; look < 1000; ++look) {
    std::this_thread::yield();
    threads = std::min(threads, entries("/proc/self/task"));
  }
  return threads;
}

bool Held::operator==(const Held& other) const {
  const std::uint64_t apart = std::max(mapped_mebibytes, other.mapped_mebibytes) -
                              std::min(mapped_mebibytes, other.mapped_mebibytes);
  return threads == other.threads && descriptors == other.descriptors &&
         shard_mappings == other.shard_mappings && apart < 8;
}

std::ostream& operator<<(std::ostream& out, const Held& held) {
  return out << held.threads << " threads, " << held.descriptors << " descriptors, "
             << held.shard_mappings << " mapped shards, " << held.mapped_mebibytes << " MiB mapped";
}

Held held() {
  Held held;
  held.threads = running_threads();
  held.descriptors = open_descriptors();
  std::ifstream maps("/proc/self/maps");
  std::uint64_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(".safetensors") != std::string::npos) ++held.shard_mappings;
    // Anonymous blocks: arenas and rings are the large ones.
    std::size_t end = 0;
    const std::uint64_t begin = std::stoull(line, &end, 16);
    const std::uint64_t size = std::stoull(line.substr(end + 1), nullptr, 16) - begin;
    const bool stack = size == 8u << 20;     // glibc keeps some of ended threads
    const bool shadow = size >= 1ull << 36;  // of a sanitizer
    if (line.find("rw-p 00000000 00:00 0") == std::string::npos || stack || shadow) continue;
    bytes += size;
  }
#ifndef BERTH_SANITIZED
  held.mapped_mebibytes = bytes >> 20;  // sanitizers map memory of their own as they go
#endif
  return held;
}

void forget_pages(const std::filesystem::path& file) {
  const Descriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  fdatasync(fd.get());
  posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

double pages_resident(const std::filesystem::path& file) {
  const Descriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  return resident_fraction(fd.get(), 0, std::filesystem::file_size(file)).value_or(-1);
}

}  // namespace berth::testing
