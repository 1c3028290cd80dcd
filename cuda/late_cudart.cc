// CUDA's runtime, opened when the library that holds this is opened, and linked by nothing.
// Python's package has it (BERTH_LATE_CUDART): one wheel is for machines with CUDA's runtime and
// without it. In a process of torch it is the runtime that torch has opened already, so there are
// never two.
//
// Each function of the runtime stands here as one jump to where a slot points: to the runtime's own
// function, or, where there is no runtime, to one that says so by its result.
#include <dlfcn.h>

#include <string>
#include <string_view>

#ifndef __x86_64__
#error "the jumps of late_cudart.cc are those of x86-64; link CUDA's runtime instead"
#endif

namespace {

// Where there is no runtime. None of CUDA's headers is included here, so that any function can have
// a jump of its name.
constexpr int kNoDevice = 100;  // cudaErrorNoDevice
constexpr const char* kAbsent = "CUDA's runtime was not found";

int absent() { return kNoDevice; }
void** absent_handle() { return nullptr; }
const char* absent_text() { return kAbsent; }

}  // namespace

// cudart_names.inc, which BerthLateCudart.cmake writes, names every function that the runtime
// exports.
#define BERTH_CUDART(name)                                                             \
  extern "C" {                                                                         \
  [[gnu::visibility("hidden"), gnu::used]] void* berth_slot_##name;                    \
  }                                                                                    \
  asm(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ", %function\n" #name \
      ":\n jmp *berth_slot_" #name "(%rip)\n.size " #name ", .-" #name "\n");
#include <cudart_names.inc>
#undef BERTH_CUDART

namespace {

struct Slot {
  const char* name;
  void** slot;
};

#define BERTH_CUDART(name) {#name, &berth_slot_##name},
constexpr Slot kSlots[] = {
#include <cudart_names.inc>
};
#undef BERTH_CUDART

// The folder of the library that this is in.
std::string own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0) return ".";
  const std::string path = info.dli_fname == nullptr ? "" : info.dli_fname;
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void* open_runtime() {
  const std::string name = "libcudart.so." BERTH_CUDART_MAJOR;
  // One that the process has already: two of them would each have a state of their own.
  if (void* library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return library;
  // Then where NVIDIA's wheels put it, seen from site-packages/berth/_native/lib, because torch
  // opens that one; then what LD_LIBRARY_PATH and the system have.
  for (const std::string& path :
       {own_folder() + "/../../../nvidia/cu" BERTH_CUDART_MAJOR "/lib/" + name, name,
        "/usr/local/cuda/lib64/" + name}) {
    if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

void* stand_in(std::string_view name) {
  if (name == "cudaGetErrorString" || name == "cudaGetErrorName") {
    return reinterpret_cast<void*>(&absent_text);
  }
  if (name == "__cudaRegisterFatBinary") return reinterpret_cast<void*>(&absent_handle);
  return reinterpret_cast<void*>(&absent);
}

// Before the constructors that nvcc makes, which register kernels with the runtime.
[[gnu::constructor(101)]] void fill_slots() {
  void* const runtime = open_runtime();  // never closed: kernels are registered with it
  for (const Slot& slot : kSlots) {
    void* const found = runtime == nullptr ? nullptr : ::dlsym(runtime, slot.name);
    *slot.slot = found == nullptr ? stand_in(slot.name) : found;
  }
}

}  // namespace
