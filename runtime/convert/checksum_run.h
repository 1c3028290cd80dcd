// `berth checksum`: reads every tensor of a checkpoint once and hashes it.
#pragma once

#include <string>

#include "berth/checkpoint.h"
#include "berth/load.h"
#include "runtime/verify/checksums.h"

namespace berth {

// The checksums of all tensors. Reads the bytes of tensors once, with the engine options.io,
// through at most options.staging bytes of memory; besides it holds TensorDigests::kMostHeld at
// most. Where tensors share so many bytes that this is too little, some are read again. Throws
// Error and Interrupted as load() does.
Checksums compute_checksums(const Checkpoint& checkpoint, const LoadOptions& options);

// Computes the checksums and returns the text that `berth checksum` writes. Throws as above.
std::string checksum_text(const Checkpoint& checkpoint, const LoadOptions& options);

}  // namespace berth
