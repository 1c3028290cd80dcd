// `berth checksum`: every tensor of a checkpoint read once and hashed.
#pragma once

#include <string>

#include "berth/checkpoint.h"
#include "berth/load.h"
#include "runtime/verify/checksums.h"

namespace berth {

// Reads every tensor once, within options.staging bytes of memory, through options.io. Throws Error
// as load() does.
Checksums compute_checksums(const Checkpoint& checkpoint, const LoadOptions& options);

// What `berth checksum` writes: both of the above.
std::string checksum_text(const Checkpoint& checkpoint, const LoadOptions& options);

}  // namespace berth
