// Tied tensors of a model, and what a checkpoint stores for them.
#pragma once

#include <optional>
#include <string>

#include "berth/checkpoint.h"
#include "berth/model.h"

namespace berth {

// Settles from which stored tensor each group of ties is read: from that of its first member that
// has one. A member that is stored as well is a copy if its dtype, shape and bytes are the same. It
// is then not read again, and counts as ignored. If it differs, it leaves its group and is a tensor
// of its own, as in transformers, and a note of the tree says so. `config` is the name of the file
// that asks for the ties.
//
// To compare two stored tensors of the same dtype and shape their bytes are read, up to the first
// difference: the only bytes of weights that opening a model reads. Throws Error where they cannot
// be read.
void settle_ties(ModelTree& tree, const Checkpoint& checkpoint, std::optional<DType> wanted,
                 const std::string& config);

}  // namespace berth
