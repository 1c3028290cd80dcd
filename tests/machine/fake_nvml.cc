// A libnvidia-ml.so.1 that reports the state in fake_nvml.h. It is built three times: with all
// functions; with FAKE_NVML_OLD, without the optional ones; with FAKE_NVML_LACKS_MEMORY, without
// one that is needed.
#include "fake_nvml.h"

#include <cstdio>
#include <cstring>

namespace {

struct PciInfo {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char bus_id[32];
};

struct FieldValue {
  unsigned field, scope;
  long long timestamp, latency;
  unsigned type;
  int status;
  unsigned long long value;
};

// A handle is the address of the GPU's entry. Only handles that were given out may be passed back.
FakeGpu* gpu_of(void* handle) { return static_cast<FakeGpu*>(handle); }

int check(const char* function, void* handle = nullptr) {
  FakeNvml& fake = *fake_nvml();
  const bool this_gpu = fake.failing_gpu < 0 || !handle ||
                        gpu_of(handle) == &fake.gpus[static_cast<std::size_t>(fake.failing_gpu)];
  return fake.fails == function && this_gpu ? fake.error : 0;
}

[[maybe_unused]] int put(char* buffer, unsigned length, const std::string& text) {
  if (text.size() + 1 > length) return 7;  // insufficient size
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  return 0;
}

int put(unsigned* out, unsigned value, int status) {
  if (status == 0) *out = value;
  return status;
}

}  // namespace

extern "C" {

FakeNvml* fake_nvml() {
  static FakeNvml state;
  return &state;
}

int nvmlInit_v2() {
  if (const int status = check("init")) return status;
  ++fake_nvml()->inits;
  return 0;
}
int nvmlShutdown() {
  ++fake_nvml()->shutdowns;
  return check("shutdown");
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  const FakeNvml& fake = *fake_nvml();
  const unsigned claimed = fake.claims < 0 ? static_cast<unsigned>(fake.gpus.size())
                                           : static_cast<unsigned>(fake.claims);
  return put(count, claimed, check("count"));
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  FakeNvml& fake = *fake_nvml();
  if (index >= fake.gpus.size()) return 2;
  void* const found = &fake.gpus[index];
  if (const int status = check("handle", found)) return status;
  *handle = found;
  return 0;
}
#ifndef FAKE_NVML_LACKS_MEMORY
int nvmlDeviceGetMemoryInfo(void* handle, unsigned long long* memory) {
  if (const int status = check("memory", handle)) return status;
  memory[0] = gpu_of(handle)->total;
  memory[1] = gpu_of(handle)->free;
  memory[2] = memory[0] - memory[1];
  return 0;
}
#endif
#ifndef FAKE_NVML_OLD
const char* nvmlErrorString(int status) { return status == 15 ? "GPU is lost" : "Unknown Error"; }
int nvmlDeviceGetName(void* handle, char* buffer, unsigned length) {
  if (const int status = check("name", handle)) return status;
  return put(buffer, length, gpu_of(handle)->name);
}
int nvmlDeviceGetUUID(void* handle, char* buffer, unsigned length) {
  if (const int status = check("uuid", handle)) return status;
  return put(buffer, length, gpu_of(handle)->uuid);
}
int nvmlDeviceGetPciInfo_v3(void* handle, PciInfo* info) {
  if (const int status = check("pci", handle)) return status;
  return put(info->bus_id, sizeof info->bus_id, gpu_of(handle)->bus_id);
}
int nvmlDeviceGetMaxPcieLinkGeneration(void* handle, unsigned* value) {
  return put(value, gpu_of(handle)->generation, check("generation", handle));
}
int nvmlDeviceGetMaxPcieLinkWidth(void* handle, unsigned* value) {
  return put(value, gpu_of(handle)->lanes, check("width", handle));
}
int nvmlDeviceGetCurrPcieLinkGeneration(void*, unsigned* value) { return put(value, 3, 0); }
int nvmlDeviceGetCurrPcieLinkWidth(void*, unsigned* value) { return put(value, 8, 0); }
int nvmlDeviceGetNumGpuCores(void* handle, unsigned* value) {
  return put(value, gpu_of(handle)->cores, check("cores", handle));
}
int nvmlDeviceGetMaxClockInfo(void* handle, unsigned type, unsigned* value) {
  return put(value, gpu_of(handle)->clock, type == 1 ? check("clock", handle) : 2);
}
int nvmlDeviceGetNumaNodeId(void* handle, unsigned* node) {
  const int own = gpu_of(handle)->numa_node;
  return put(node, static_cast<unsigned>(own), own < 0 ? 3 : check("numa", handle));
}
int nvmlDeviceGetMigMode(void* handle, unsigned* current, unsigned* pending) {
  *pending = 0;
  return put(current, gpu_of(handle)->mig, check("mig", handle));
}
int nvmlDeviceGetNvLinkState(void* handle, unsigned link, unsigned* active) {
  if (const int status = check("link_state", handle)) return status;
  const FakeGpu& gpu = *gpu_of(handle);
  const unsigned up =
      static_cast<unsigned>(gpu.switch_links) + static_cast<unsigned>(gpu.links.size());
  if (link >= up + static_cast<unsigned>(gpu.dead_links)) return 2;
  *active = link < up;
  return 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(void* handle, unsigned link, unsigned* type) {
  if (const int status = check("link_remote_type", handle)) return status;
  *type = link < static_cast<unsigned>(gpu_of(handle)->switch_links) ? 2 : 0;
  return 0;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void* handle, unsigned link, PciInfo* info) {
  if (const int status = check("link_remote", handle)) return status;
  const FakeGpu& gpu = *gpu_of(handle);
  const unsigned first = static_cast<unsigned>(gpu.switch_links);
  if (link < first || link - first >= gpu.links.size()) return 2;
  const auto peer = static_cast<std::size_t>(gpu.links[link - first]);
  return put(info->bus_id, sizeof info->bus_id, fake_nvml()->gpus[peer].bus_id);
}
int nvmlDeviceGetFieldValues(void* handle, int count, FieldValue* values) {
  if (const int status = check("fields", handle)) return status;
  for (int i = 0; i < count; ++i) {
    const unsigned speed = gpu_of(handle)->link_speed_mbps;
    values[i].status = values[i].field == 90 && speed > 0 ? 0 : 3;
    values[i].type = 1;
    values[i].value = speed;
  }
  return 0;
}
int nvmlDeviceGetP2PStatus(void* from, void*, int what, int* status) {
  if (const int failed = check("p2p", from)) return failed;
  *status = fake_nvml()->peers && what <= 1 ? 0 : 2;
  return 0;
}
#endif

}  // extern "C"
