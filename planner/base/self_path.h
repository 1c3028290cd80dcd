// Where the program that runs is.
#pragma once

#include <filesystem>

namespace berth {

// The executable file of this process; empty where that is not known. Works without /proc too,
// unless the program was moved since it was started.
std::filesystem::path self_path();

}  // namespace berth
