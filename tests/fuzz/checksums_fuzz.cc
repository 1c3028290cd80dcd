// Runs the reader of checksum files on arbitrary bytes. It must give one checksum for each tensor,
// or throw Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "berth/error.h"
#include "runtime/verify/checksums.h"
#include "tests/fuzz/checksums_model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const berth::Checkpoint checkpoint = berth::checksums_model();
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const berth::Checksums checksums = berth::parse_checksums(text, "input", checkpoint);
    if (checksums.size() != checkpoint.tensors.size()) std::abort();
  } catch (const berth::Error&) {
  }
  return 0;
}
