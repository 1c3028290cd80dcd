// Where the data files live: architecture templates and hardware descriptions.
#pragma once

#include <filesystem>

namespace berth {

// The folder that holds `architectures/` and `hardware/`: $BERTH_CONFIGS if it is set, else the one
// that set_config_dir() named, else ../share/berth/configs beside the executable's folder, else
// configs/ of the source tree that this program was built from. Throws Error naming the places
// looked at if none is a folder.
std::filesystem::path find_config_dir();

// For programs that are not installed beside Berth. <berth/berth.h> calls it with the folder of the
// installation that the program was compiled against. Not to be called while others plan.
void set_config_dir(std::filesystem::path folder);

}  // namespace berth
