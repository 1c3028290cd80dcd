// The door into libberth_reference.so, decoding by libtorch, for a program that opens it by name.
// It is opened in the same way as libberth_executor.so (executor_api.h), and only where libtorch is
// to compute: it takes a few tenths of a second.
#pragma once

#include "runtime/program/decoder.h"

namespace berth {

inline constexpr int kReferenceApiVersion = 2;
inline constexpr const char* kReferenceDoor = "berth_reference_api";

struct ReferenceApi {
  int version = kReferenceApiVersion;
  MakeDecoder make_decoder = nullptr;
  void (*remove_unfinished)() noexcept = nullptr;  // of the library's own; for a signal handler
};

using ReferenceDoor = const ReferenceApi* (*)();

}  // namespace berth

extern "C" __attribute__((visibility("default"))) const berth::ReferenceApi* berth_reference_api();
