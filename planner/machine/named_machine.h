// Machines by name: those of configs/hardware, and several of a GPU that one of these has.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "berth/machine.h"

namespace berth {

// Like read_machine_file(), but where there is no machine file "4xh100", the name means four of the
// GPU of "h100", which must have one: its host as it is, for each GPU the link to the host that the
// one has, and no links between GPUs. Four times its price, if it has one. Notes of the machine say
// that this is assumed. Throws Error as read_machine_file() does, for a bare name that is not known
// with all that are, and for a machine whose GPU cannot be multiplied.
Machine read_named_machine(const std::filesystem::path& name);

// The names of the machine files that Berth comes with, sorted.
std::vector<std::string> machine_names();

}  // namespace berth
