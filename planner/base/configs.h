// Where the data files live: architecture templates and hardware descriptions.
#pragma once

#include <filesystem>

namespace berth {

// The folder that holds `architectures/` and `hardware/`: $BERTH_CONFIGS if it is set, else
// ../share/berth/configs beside the executable's folder, else configs/ of the source tree that this
// program was built from. Throws Error naming the places looked at if none is a folder.
std::filesystem::path find_config_dir();

}  // namespace berth
