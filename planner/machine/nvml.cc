#include "planner/machine/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <mutex>

#include "planner/base/quote.h"

namespace berth {
namespace {

// The part of NVML's C interface that is used here, as its reference manual gives it.
struct NvmlDeviceHandle;
using Handle = NvmlDeviceHandle*;
using Status = int;  // 0 is success
constexpr Status kSuccess = 0;

struct Memory {
  unsigned long long total, free, used;
};

struct PciInfo {  // version 3
  char bus_id_legacy[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char bus_id[32];
};

struct FieldValue {
  unsigned field, scope;
  long long timestamp, latency;
  unsigned type;
  Status status;
  union {
    double as_double;
    unsigned as_unsigned;
    unsigned long long as_unsigned_long_long;
  } value;
};
static_assert(sizeof(PciInfo) == 68 && sizeof(FieldValue) == 40 && sizeof(Memory) == 24);

constexpr unsigned kFieldNvlinkSpeed = 90;  // MB/s a link and direction, of the active links
constexpr unsigned kTypeUnsigned = 1;
constexpr unsigned kClockSm = 1;
constexpr unsigned kMaxNvlinks = 36;  // NVLink 4 has 18; asking stops at the first error
constexpr unsigned kRemoteSwitch = 2;
constexpr int kP2pRead = 0, kP2pWrite = 1;
constexpr double kUsualNvlinkSpeed = 25e9;  // of NVLink 2, 3 and 4, where the driver says nothing

struct Api {
  Status (*init)() = nullptr;
  Status (*shutdown)() = nullptr;
  const char* (*error_string)(Status) = nullptr;
  Status (*count)(unsigned*) = nullptr;
  Status (*handle)(unsigned, Handle*) = nullptr;
  Status (*memory)(Handle, Memory*) = nullptr;
  // These may be absent in an old library, or fail for some kinds of devices.
  Status (*name)(Handle, char*, unsigned) = nullptr;
  Status (*uuid)(Handle, char*, unsigned) = nullptr;
  Status (*pci)(Handle, PciInfo*) = nullptr;
  Status (*max_generation)(Handle, unsigned*) = nullptr;
  Status (*max_width)(Handle, unsigned*) = nullptr;
  Status (*current_generation)(Handle, unsigned*) = nullptr;
  Status (*current_width)(Handle, unsigned*) = nullptr;
  Status (*cores)(Handle, unsigned*) = nullptr;
  Status (*max_clock)(Handle, unsigned, unsigned*) = nullptr;
  Status (*numa_node)(Handle, unsigned*) = nullptr;
  Status (*mig_mode)(Handle, unsigned*, unsigned*) = nullptr;
  Status (*link_state)(Handle, unsigned, unsigned*) = nullptr;
  Status (*link_remote)(Handle, unsigned, PciInfo*) = nullptr;
  Status (*link_remote_type)(Handle, unsigned, unsigned*) = nullptr;
  Status (*fields)(Handle, int, FieldValue*) = nullptr;
  Status (*p2p)(Handle, Handle, int, int*) = nullptr;
};

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

template <class Function>
bool load(void* library, const char* name, Function& function) {
  // POSIX promises that this cast of dlsym()'s result works.
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// The library, open and initialised, for as long as the object lives.
class Nvml {
 public:
  // Null, and a note, if there is no library or it does not start.
  static std::unique_ptr<Nvml> open(const std::string& path, std::vector<std::string>& notes) {
    std::unique_ptr<Nvml> nvml(new Nvml);
    nvml->library_.reset(dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL));
    if (!nvml->library_) {
      const char* reason = dlerror();
      notes.push_back("no GPUs: the NVIDIA driver's library does not open (" +
                      printable(reason ? reason : path, 200) + ")");
      return nullptr;
    }
    if (const char* missing = nvml->load_all()) {
      notes.push_back(std::string("no GPUs: the NVIDIA driver's library lacks ") + missing);
      return nullptr;
    }
    if (const Status status = nvml->api.init(); status != kSuccess) {
      notes.push_back("no GPUs: the NVIDIA driver refuses (" + nvml->text(status) + ")");
      return nullptr;
    }
    nvml->initialised_ = true;
    return nvml;
  }

  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (initialised_) api.shutdown();
  }

  std::string text(Status status) const {
    const char* said = api.error_string ? api.error_string(status) : nullptr;
    return said ? printable(said) : "NVML error " + std::to_string(status);
  }

  Api api;

 private:
  Nvml() = default;

  // The name of a needed function that is missing, or null.
  const char* load_all() {
    void* const library = library_.get();
    if (!load(library, "nvmlInit_v2", api.init)) return "nvmlInit_v2";
    if (!load(library, "nvmlShutdown", api.shutdown)) return "nvmlShutdown";
    if (!load(library, "nvmlDeviceGetCount_v2", api.count)) return "nvmlDeviceGetCount_v2";
    if (!load(library, "nvmlDeviceGetHandleByIndex_v2", api.handle))
      return "nvmlDeviceGetHandleByIndex_v2";
    if (!load(library, "nvmlDeviceGetMemoryInfo", api.memory)) return "nvmlDeviceGetMemoryInfo";
    load(library, "nvmlErrorString", api.error_string);
    load(library, "nvmlDeviceGetName", api.name);
    load(library, "nvmlDeviceGetUUID", api.uuid);
    load(library, "nvmlDeviceGetPciInfo_v3", api.pci);
    load(library, "nvmlDeviceGetMaxPcieLinkGeneration", api.max_generation);
    load(library, "nvmlDeviceGetMaxPcieLinkWidth", api.max_width);
    load(library, "nvmlDeviceGetCurrPcieLinkGeneration", api.current_generation);
    load(library, "nvmlDeviceGetCurrPcieLinkWidth", api.current_width);
    load(library, "nvmlDeviceGetNumGpuCores", api.cores);
    load(library, "nvmlDeviceGetMaxClockInfo", api.max_clock);
    load(library, "nvmlDeviceGetNumaNodeId", api.numa_node);
    load(library, "nvmlDeviceGetMigMode", api.mig_mode);
    load(library, "nvmlDeviceGetNvLinkState", api.link_state);
    load(library, "nvmlDeviceGetNvLinkRemotePciInfo_v2", api.link_remote);
    load(library, "nvmlDeviceGetNvLinkRemoteDeviceType", api.link_remote_type);
    load(library, "nvmlDeviceGetFieldValues", api.fields);
    load(library, "nvmlDeviceGetP2PStatus", api.p2p);
    return nullptr;
  }

  std::unique_ptr<void, CloseLibrary> library_;
  bool initialised_ = false;
};

// Calls an optional getter of one unsigned value; 0 if it is absent or fails.
template <class Getter, class... Arguments>
unsigned ask(Getter getter, Arguments... arguments) {
  unsigned value = 0;
  if (!getter || getter(arguments..., &value) != kSuccess) return 0;
  return value;
}

// Calls an optional getter of text; "" if it is absent or fails.
std::string ask_text(Status (*getter)(Handle, char*, unsigned), Handle handle) {
  std::array<char, 128> buffer{};
  if (!getter || getter(handle, buffer.data(), buffer.size() - 1) != kSuccess) return "";
  return printable(buffer.data());
}

// `value`, or 0 (unknown) if it is absurd.
int small(unsigned value) { return value > 1024 ? 0 : static_cast<int>(value); }

GpuReport read_gpu(const Nvml& nvml, unsigned index, Handle& handle,
                   std::vector<std::string>& notes) {
  const Api& api = nvml.api;
  GpuReport gpu;
  gpu.name = "GPU";
  const std::string label = "GPU " + std::to_string(index) + " (in PCI order)";
  if (const Status status = api.handle(index, &handle); status != kSuccess || !handle) {
    notes.push_back(label + " does not answer: " + nvml.text(status));
    handle = nullptr;
    return gpu;
  }
  if (std::string name = ask_text(api.name, handle); !name.empty()) gpu.name = name;
  gpu.uuid = ask_text(api.uuid, handle);
  PciInfo pci{};
  if (api.pci && api.pci(handle, &pci) == kSuccess) {
    pci.bus_id[sizeof pci.bus_id - 1] = '\0';
    gpu.pci_bus_id = printable(pci.bus_id);
  }
  gpu.pcie_generation = small(ask(api.max_generation, handle));
  if (gpu.pcie_generation == 0) gpu.pcie_generation = small(ask(api.current_generation, handle));
  gpu.pcie_lanes = small(ask(api.max_width, handle));
  if (gpu.pcie_lanes == 0) gpu.pcie_lanes = small(ask(api.current_width, handle));
  unsigned node = 0;
  if (api.numa_node && api.numa_node(handle, &node) == kSuccess && node <= 1024)
    gpu.numa_node = static_cast<int>(node);
  gpu.speed = 1e6 * ask(api.cores, handle) * ask(api.max_clock, handle, kClockSm);

  unsigned mig = 0, pending = 0;
  if (api.mig_mode && api.mig_mode(handle, &mig, &pending) == kSuccess && mig == 1) {
    notes.push_back(label + ", " + gpu.name + ", is divided by MIG, which Berth does not use");
    return gpu;
  }
  Memory memory{};
  if (const Status status = api.memory(handle, &memory); status != kSuccess || memory.total == 0) {
    notes.push_back(label + ", " + gpu.name + ", does not report its memory: " +
                    (status == kSuccess ? "zero bytes" : nvml.text(status)));
    return gpu;
  }
  gpu.total = memory.total;
  gpu.free = memory.free < memory.total ? memory.free : memory.total;
  gpu.usable = true;
  return gpu;
}

double nvlink_speed(const Api& api, Handle handle) {
  FieldValue value{};
  value.field = kFieldNvlinkSpeed;
  const bool known = api.fields && api.fields(handle, 1, &value) == kSuccess &&
                     value.status == kSuccess && value.type == kTypeUnsigned &&
                     value.value.as_unsigned > 0;
  return known ? 1e6 * value.value.as_unsigned : kUsualNvlinkSpeed;
}

using Handles = std::vector<Handle>;  // null where a GPU does not answer

void read_nvlinks(const Nvml& nvml, const Handles& handles, NvmlReport& report) {
  const Api& api = nvml.api;
  const std::size_t count = report.gpus.size();
  std::vector<double> to_switches(count, 0);
  if (!api.link_state) return;
  for (std::size_t from = 0; from < count; ++from) {
    Handle handle = handles[from];
    if (!handle) continue;
    const double speed = nvlink_speed(api, handle);
    for (unsigned link = 0; link < kMaxNvlinks; ++link) {
      unsigned active = 0;
      if (api.link_state(handle, link, &active) != kSuccess) break;
      if (!active) continue;
      if (ask(api.link_remote_type, handle, link) == kRemoteSwitch) {
        to_switches[from] += speed;
        continue;
      }
      PciInfo remote{};
      if (!api.link_remote || api.link_remote(handle, link, &remote) != kSuccess) continue;
      remote.bus_id[sizeof remote.bus_id - 1] = '\0';
      for (std::size_t to = 0; to < count; ++to)
        if (to != from && !report.gpus[to].pci_bus_id.empty() &&
            report.gpus[to].pci_bus_id == remote.bus_id)
          report.nvlink[from][to] += speed;
    }
  }
  // All switches of a machine are taken to be one that joins every GPU with links to a switch.
  for (std::size_t from = 0; from < count; ++from)
    for (std::size_t to = 0; to < count; ++to)
      if (from != to && to_switches[from] > 0 && to_switches[to] > 0)
        report.nvlink[from][to] += std::min(to_switches[from], to_switches[to]);
}

void read_peers(const Nvml& nvml, const Handles& handles, NvmlReport& report) {
  const auto ok = [&](std::size_t from, std::size_t to, int what) {
    int status = -1;
    return nvml.api.p2p(handles[from], handles[to], what, &status) == kSuccess && status == 0;
  };
  if (!nvml.api.p2p) return;
  for (std::size_t from = 0; from < report.gpus.size(); ++from)
    for (std::size_t to = 0; to < report.gpus.size(); ++to)
      if (from != to && handles[from] && handles[to])
        report.peer[from][to] = ok(from, to, kP2pRead) && ok(from, to, kP2pWrite);
}

// The driver takes 20 ms to start, so its own library stays open for the next time.
std::shared_ptr<Nvml> open_once(const std::string& library, std::vector<std::string>& notes) {
  if (library != kDriverLibrary) return Nvml::open(library, notes);
  static std::mutex mutex;
  static auto& kept = *new std::shared_ptr<Nvml>;  // until the process ends
  const std::scoped_lock lock(mutex);
  if (!kept) kept = Nvml::open(library, notes);
  return kept;
}

}  // namespace

NvmlReport read_nvml(const std::string& library) {
  NvmlReport report;
  const std::shared_ptr<Nvml> nvml = open_once(library, report.notes);
  if (!nvml) return report;
  unsigned count = 0;
  if (const Status status = nvml->api.count(&count); status != kSuccess) {
    report.notes.push_back("no GPUs: the NVIDIA driver does not count them (" + nvml->text(status) +
                           ")");
    return report;
  }
  constexpr unsigned kMostGpus = 1024;  // more than this means that the library is broken
  if (count > kMostGpus) {
    report.notes.push_back("no GPUs: the NVIDIA driver counts " + std::to_string(count));
    return report;
  }
  Handles handles(count, nullptr);
  for (unsigned index = 0; index < count; ++index)
    report.gpus.push_back(read_gpu(*nvml, index, handles[index], report.notes));
  report.nvlink.assign(count, std::vector<double>(count, 0));
  report.peer.assign(count, std::vector<bool>(count, false));
  if (count > 1) {
    read_nvlinks(*nvml, handles, report);
    read_peers(*nvml, handles, report);
  }
  return report;
}

}  // namespace berth
