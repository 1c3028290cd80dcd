// The door into libberth_loader.so for a program that opens it by name instead of linking it.
//
//   void* library = dlopen(".../libberth_loader.so", RTLD_NOW | RTLD_LOCAL);
//   auto* door = reinterpret_cast<berth::LoaderDoor>(dlsym(library, berth::kLoaderDoor));
//   const berth::LoaderApi* api = door();   // compare api->version with kLoaderApiVersion first
//
// Program and library must come from one build, because C++ values and exceptions (berth::Error)
// pass between them. Never dlclose the library while a LoadedModel lives.
#pragma once

#include "berth/loader.h"
#include "runtime/calibrate/disk.h"
#include "runtime/calibrate/gpus.h"
#include "runtime/calibrate/kernels.h"
#include "runtime/calibrate/ram.h"
#include "runtime/load/naive.h"

namespace berth {

inline constexpr int kLoaderApiVersion = 6;
inline constexpr const char* kLoaderDoor = "berth_loader_api";

struct LoaderApi {
  int version = kLoaderApiVersion;
  std::unique_ptr<LoadedModel> (*load)(const Model&, const Plan&, const LoadOptions&) = nullptr;
  NaiveReport (*load_naively)(const Model&) = nullptr;
  HostMemory (*host_memory)() = nullptr;
  int (*cuda_device_count)() = nullptr;                    // usable GPUs; 0 without a driver
  bool (*has_packed_kernels)(int device) = nullptr;        // of a GPU: cuda/packed_product.h
  RamFigures (*measure_ram)(const RamOptions&) = nullptr;  // berth calibrate
  KernelFigures (*measure_kernels)(const KernelOptions&) = nullptr;
  DiskFigures (*measure_disk)(const DiskOptions&) = nullptr;
  MeasuredGpus (*measure_gpus)(GpuBench&, const GpuOptions&) = nullptr;
  std::unique_ptr<GpuBench> (*make_gpu_bench)() = nullptr;
  // berth checksum; returns the text of the checksum file.
  std::string (*checksum)(const Checkpoint&, const LoadOptions&) = nullptr;
  ConvertReport (*convert)(const Checkpoint&, const std::vector<ConvertTensor>&,
                           const std::vector<Companion>&, const std::filesystem::path&,
                           const ConvertOptions&) = nullptr;
  ConvertReport (*convert_for_cpu)(const Model&, const std::filesystem::path&,
                                   const ConvertOptions&) = nullptr;
  // Removes what conversions to a folder left that were killed; a sentence about each.
  std::vector<std::string> (*clear_leftovers)(const std::filesystem::path&) = nullptr;
  void (*remove_unfinished)() noexcept = nullptr;  // of the library's own; for a signal handler
};

using LoaderDoor = const LoaderApi* (*)();

}  // namespace berth

extern "C" __attribute__((visibility("default"))) const berth::LoaderApi* berth_loader_api();
