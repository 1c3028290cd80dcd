// Where Berth's data files are: the templates of model families and the machine files.
//
// open_model() and read_machine_file() look there. A program that links an installed Berth and
// includes <berth/berth.h> need not do anything: the header names the installation's folder.
#pragma once

#include <filesystem>

namespace berth {

// The folder that holds `architectures/` and `hardware/`, the first of these that is a folder:
//   1. $BERTH_CONFIGS; where it is set and is not a folder, that is an Error,
//   2. what set_config_dir() named,
//   3. ../share/berth/configs, as seen from the folder of the running program,
//   4. configs/ of the source tree that Berth was built from.
// Throws Error naming the places that were looked at where none is a folder.
std::filesystem::path find_config_dir();

// Names the folder for this process. Not thread-safe: call it before other threads open models or
// read machine files, as <berth/berth.h> does before main().
void set_config_dir(std::filesystem::path folder);

}  // namespace berth
