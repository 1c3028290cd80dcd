// Reads memory as fast as one thread can.
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

/// Reads all of [data, data + bytes) once, with the widest loads that the processor has, from four
/// places of it at a time, so that several of its prefetchers work at once. `bytes` must be a
/// multiple of kReadUnit. Returns a number that depends on every byte, for the caller to use: else
/// the compiler would leave the reads out.
std::uint64_t read_all(const std::byte* data, std::size_t bytes);

inline constexpr std::size_t kReadUnit = 4096;

}  // namespace berth
