// Loading for the C interface: tensors in memory that Berth owns, each with an owner of its own,
// and into memory of the caller.
#include "berth/load.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "berth/machine.h"
#include "cuda/device.h"
#include "planner/base/quote.h"
#include "planner/machine/cgroup.h"
#include "planner/model/tree/tree_builder.h"
#include "runtime/c/dlpack.h"
#include "runtime/c/files.h"
#include "runtime/c/guard.h"
#include "runtime/load/environment.h"
#include "runtime/load/load_into.h"

namespace berth {
namespace {

// ---- Options

// What the caller has of a struct of ours that may have grown since: the rest is zero.
template <typename Struct>
Struct as_given(const Struct* given, const char* name) {
  Struct all{};
  if (given == nullptr) return all;
  if (given->struct_size == 0 || given->struct_size > sizeof all) {
    throw BadArgument(std::string(name) + ": struct_size is " + std::to_string(given->struct_size) +
                      ", not " + std::to_string(sizeof all));
  }
  std::memcpy(&all, given, given->struct_size);
  return all;
}

DType dtype_of(const char* name) {
  const std::optional<DType> dtype = parse_dtype(name);
  if (!dtype) throw BadArgument(quote(name) + " is no dtype (\"BF16\", \"F32\", ...)");
  return *dtype;
}

LoadOptions load_options(const berth_load_options& given) {
  LoadOptions options;
  if (given.io != nullptr) {
    const auto engine = parse_io_engine(given.io);
    if (!engine) throw BadArgument(quote(given.io) + " is no read engine (auto, buffered, ...)");
    options.io = *engine;
  }
  if (given.staging != 0) options.staging = given.staging;
  options.emulate = given.emulate != 0;
  if (given.progress != nullptr) {
    options.on_progress = [given](const LoadProgress& now) {
      if (given.progress(now.bytes_done, now.bytes_total, now.seconds, given.user) != 0) {
        throw Interrupted();
      }
    };
  }
  return options;
}

void fill_report(berth_load_report* report, const LoadReport& found, std::uint64_t mapped,
                 std::uint64_t tensors) {
  if (report == nullptr) return;
  berth_load_report all{report->struct_size,     found.seconds, tensors,
                        found.bytes_read,        mapped,        found.host_peak_bytes,
                        found.planned_peak_bytes};
  std::memcpy(report, &all, std::min<std::size_t>(report->struct_size, sizeof all));
}

// ---- Tensors that are handed out

DLDataType data_type(DType dtype) {
  const auto of = [&](DLDataTypeCode code) {
    return DLDataType{code, static_cast<std::uint8_t>(dtype_bits(dtype)), 1};
  };
  switch (dtype) {
    case DType::kBool:
      return of(kDLBool);
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      return of(kDLInt);
    case DType::kU8:
    case DType::kU16:
    case DType::kU32:
    case DType::kU64:
      return of(kDLUInt);
    case DType::kF16:
    case DType::kF32:
    case DType::kF64:
      return of(kDLFloat);
    case DType::kBF16:
      return of(kDLBfloat);
    case DType::kC64:
      return of(kDLComplex);
    case DType::kF8E4M3:
      return of(kDLFloat8_e4m3fn);
    case DType::kF8E4M3FNUZ:
      return of(kDLFloat8_e4m3fnuz);
    case DType::kF8E5M2:
      return of(kDLFloat8_e5m2);
    case DType::kF8E5M2FNUZ:
      return of(kDLFloat8_e5m2fnuz);
    case DType::kF8E8M0:
      return of(kDLFloat8_e8m0fnu);
    default:
      return {kDLUInt, 8, 0};  // none: it comes as bytes
  }
}

// A tensor on its way to the caller, with its share of the memory that it is in.
struct Handed {
  DLManagedTensor managed{};
  std::shared_ptr<TensorMemory> memory;
  std::size_t index = 0;  // in that memory
  std::array<std::int64_t, 4> few{};
  std::vector<std::int64_t> many;

  Handed(std::shared_ptr<TensorMemory> in, std::size_t i) : memory(std::move(in)), index(i) {
    managed.dl_tensor.data = memory->hold(index);
    managed.dl_tensor.device = {kDLCPU, 0};
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensor* self) { delete static_cast<Handed*>(self->manager_ctx); };
  }
  ~Handed() { memory->give_back(index); }
  Handed(const Handed&) = delete;
  Handed& operator=(const Handed&) = delete;

  void describe(DType dtype, const Shape& shape) {
    DLTensor& tensor = managed.dl_tensor;
    tensor.dtype = data_type(dtype);
    const bool bytes = tensor.dtype.lanes == 0;
    tensor.dtype.lanes = 1;
    const std::size_t rank = bytes ? 1 : shape.size();
    if (rank > few.size()) many.resize(rank);
    tensor.shape = rank > few.size() ? many.data() : few.data();
    tensor.ndim = static_cast<std::int32_t>(rank);
    if (bytes) {
      tensor.shape[0] = static_cast<std::int64_t>(tensor_bytes(dtype, shape).value_or(0));
    } else {
      for (std::size_t i = 0; i < rank; ++i) tensor.shape[i] = static_cast<std::int64_t>(shape[i]);
    }
  }
};

bool can_map(const Checkpoint& checkpoint, const TensorInfo& info, DType dtype) {
  const std::uint64_t align = std::max(1u, dtype_bits(info.dtype) / 8);
  return info.dtype == dtype && checkpoint.form_of(info) == nullptr && info.begin % align == 0;
}

// A load of some tensors into private memory.
struct PrivateLoad {
  std::vector<std::uint32_t> tensors;  // indices into the checkpoint's
  std::vector<DType> dtypes;
  std::vector<std::size_t> places;  // where each stands in what the caller asked for
};

// The least bytes for which memory that is free is compared with what is needed: to look at the
// machine takes longer than to load less.
constexpr std::uint64_t kLeastChecked = 64u << 20;

// Loads as a model that has these tensors and nothing else.
std::unique_ptr<LoadedModel> load_private(const Checkpoint& checkpoint, const PrivateLoad& wanted,
                                          const LoadOptions& options) {
  Model model;
  model.checkpoint = checkpoint;
  model.tree.name = checkpoint.folder.filename().string();
  model.tree.modules.emplace_back();
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < wanted.tensors.size(); ++i) {
    const TensorInfo& info = checkpoint.tensors[wanted.tensors[i]];
    ModelTensor tensor;
    tensor.name = model.tree.names.add(info.name);
    tensor.stored = info.dtype;
    tensor.dtype = wanted.dtypes[i];
    tensor.shape = info.shape;
    tensor.module = 0;
    tensor.source = wanted.tensors[i];
    bytes += tensor.bytes();
    model.tree.tensors.push_back(std::move(tensor));
  }
  Plan plan;
  plan.devices.push_back({.name = "cpu", .kind = DeviceKind::kCpu, .weights = bytes});
  plan.tensor_device.assign(wanted.tensors.size(), 0);
  plan.cpu_memory = CpuMemory::kPrivate;
  plan.staging = options.staging;
  LoadEnvironment environment;
  if (bytes >= kLeastChecked) environment.probe = probe_machine;
  return load(model, plan, options, environment);
}

class Loading {
 public:
  Loading(const berth_files& files, std::span<const std::uint32_t> tensors,
          const berth_load_options& given)
      : files_(files), tensors_(tensors), given_(given), handed_(tensors.size()) {}

  void run() {
    if (given_.memory != BERTH_MEMORY_MAP && given_.memory != BERTH_MEMORY_PRIVATE) {
      throw BadArgument("berth_load_options: memory is " + std::to_string(given_.memory) +
                        ", which is neither BERTH_MEMORY_MAP nor BERTH_MEMORY_PRIVATE");
    }
    if (given_.dtype != nullptr) dtype_ = dtype_of(given_.dtype);
    if (dtype_ && !is_convertible(*dtype_)) {
      throw BadArgument(quote(given_.dtype) + ": tensors become F16, BF16, F32 or F64");
    }
    const LoadOptions options = load_options(given_);
    for (std::size_t i = 0; i < tensors_.size(); ++i) place(i);
    if (!private_.tensors.empty()) read_private(options);
  }

  // Gives the tensors to the caller, who frees them from now on.
  void hand_over(DLManagedTensor** out) {
    for (std::size_t i = 0; i < handed_.size(); ++i) out[i] = &handed_[i].release()->managed;
  }
  const LoadReport& report() const { return report_; }
  std::uint64_t bytes_mapped() const { return bytes_mapped_; }

 private:
  void place(std::size_t i) {
    const std::uint32_t index = tensors_[i];
    const TensorInfo& info = files_.checkpoint.tensors[index];
    const DType dtype = memory_dtype(info.dtype, dtype_);
    if (given_.memory == BERTH_MEMORY_MAP && can_map(files_.checkpoint, info, dtype)) {
      if (shard_ != info.shard || !mapping_) mapping_ = files_.mapping(shard_ = info.shard);
      handed_[i] = std::make_unique<Handed>(mapping_, index - files_.first_of_shard[info.shard]);
      handed_[i]->describe(dtype, info.shape);
      bytes_mapped_ += info.bytes();
      return;
    }
    private_.tensors.push_back(index);
    private_.dtypes.push_back(dtype);
    private_.places.push_back(i);
  }

  void read_private(const LoadOptions& options) {
    const std::shared_ptr<LoadedModel> loaded = load_private(files_.checkpoint, private_, options);
    std::vector<std::span<std::byte>> spans;
    for (std::uint32_t k = 0; k < private_.tensors.size(); ++k) {
      const LoadedTensor& tensor = loaded->tensor(k);
      spans.emplace_back(tensor.data, tensor.bytes);
    }
    report_ = loaded->report();
    const auto memory = std::make_shared<TensorMemory>(std::move(spans), loaded);
    for (std::size_t k = 0; k < private_.tensors.size(); ++k) {
      auto& handed = handed_[private_.places[k]];
      handed = std::make_unique<Handed>(memory, k);
      handed->describe(private_.dtypes[k], files_.checkpoint.tensors[private_.tensors[k]].shape);
    }
  }

  const berth_files& files_;
  std::span<const std::uint32_t> tensors_;
  const berth_load_options& given_;
  std::optional<DType> dtype_;
  std::vector<std::unique_ptr<Handed>> handed_;
  std::shared_ptr<TensorMemory> mapping_;  // of shard_
  std::uint32_t shard_ = 0;
  PrivateLoad private_;
  LoadReport report_;
  std::uint64_t bytes_mapped_ = 0;
};

std::vector<std::uint32_t> indices(const berth_files* files, const std::uint32_t* tensors,
                                   std::size_t count) {
  if (files == nullptr) throw BadArgument("the handle of the files is NULL");
  std::vector<std::uint32_t> all(count);
  for (std::size_t i = 0; i < count; ++i) {
    all[i] = tensors == nullptr ? static_cast<std::uint32_t>(i) : tensors[i];
    if (all[i] >= files->tensors.size()) {
      throw BadArgument("there is no tensor " + std::to_string(all[i]) + ": the files have " +
                        std::to_string(files->tensors.size()));
    }
  }
  return all;
}

LoadTarget target_of(const berth_files& files, const berth_target& given) {
  if (given.tensor >= files.tensors.size()) {
    throw BadArgument("there is no tensor " + std::to_string(given.tensor) + ": the files have " +
                      std::to_string(files.tensors.size()));
  }
  const TensorInfo& info = files.checkpoint.tensors[given.tensor];
  LoadTarget target;
  target.source = given.tensor;
  target.dtype = given.dtype == nullptr ? info.dtype : dtype_of(given.dtype);
  target.to = static_cast<std::byte*>(given.data);
  const std::string name = "tensor " + quote(info.name) + ": ";
  if (given.device < -1) {
    throw BadArgument(name + "device " + std::to_string(given.device) +
                      ": is neither the number of a GPU nor -1, host memory");
  }
  target.device = given.device;
  target.stream = given.stream;
  if (given.size != nullptr) {
    target.size = Shape(given.size, given.size + info.shape.size());
    target.start =
        given.start != nullptr ? Shape(given.start, given.start + info.shape.size()) : info.shape;
    for (std::size_t i = 0; given.start == nullptr && i < target.start.size(); ++i) {
      target.start[i] = 0;
    }
  }
  std::uint64_t bytes = 0;
  try {
    bytes = target_bytes(files.checkpoint, target);
  } catch (const Error& error) {
    throw BadArgument(error.what());
  }
  if (bytes != given.bytes) {
    throw BadArgument(name + "takes " + std::to_string(bytes) + " bytes as it is asked for, not " +
                      std::to_string(given.bytes));
  }
  const std::uint64_t align = std::max(1u, dtype_bits(target.dtype) / 8);
  if (bytes > 0 &&
      (target.to == nullptr || reinterpret_cast<std::uintptr_t>(target.to) % align != 0)) {
    throw BadArgument(name + "its memory is NULL or not aligned to its elements");
  }
  return target;
}

}  // namespace
}  // namespace berth

using namespace berth;

berth_status berth_load(const berth_files* files, const uint32_t* tensors, size_t count,
                        const berth_load_options* options, struct DLManagedTensor** out,
                        berth_load_report* report, berth_error* error) {
  return guarded(error, BERTH_ERROR, [&] {
    const std::vector<std::uint32_t> wanted = indices(files, tensors, count);
    const berth_load_options given = as_given(options, "berth_load_options");
    if (out == nullptr && count > 0) throw BadArgument("berth_load: there is no place for tensors");
    Loading loading(*files, wanted, given);
    loading.run();
    fill_report(report, loading.report(), loading.bytes_mapped(), count);
    loading.hand_over(out);
  });
}

int32_t berth_gpu_count(void) { return cuda_device_count(); }

uint64_t berth_free_host_memory(void) {
  HostLimits memory = read_host_memory();
  if (memory.total == 0) memory = kernel_memory();
  return memory.available;
}

berth_status berth_load_into(const berth_files* files, const berth_target* targets, size_t count,
                             const berth_load_options* options, berth_load_report* report,
                             berth_error* error) {
  return guarded(error, BERTH_ERROR, [&] {
    if (files == nullptr) throw BadArgument("the handle of the files is NULL");
    if (targets == nullptr && count > 0) throw BadArgument("berth_load_into: targets is NULL");
    const berth_load_options given = as_given(options, "berth_load_options");
    std::vector<LoadTarget> wanted;
    wanted.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      // An array has the stride that its caller was compiled with.
      const std::uint64_t stride = targets->struct_size;
      const auto* at = reinterpret_cast<const char*>(targets) + i * stride;
      wanted.push_back(
          target_of(*files, as_given(reinterpret_cast<const berth_target*>(at), "berth_target")));
    }
    fill_report(report, load_into(files->checkpoint, wanted, load_options(given)), 0, count);
  });
}
