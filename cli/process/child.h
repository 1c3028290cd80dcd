// Runs this executable again, in a process of its own, and returns what it wrote.
#pragma once

#include <string>
#include <vector>

namespace berth {

struct ChildResult {
  int exit_code = 0;  // 128 + signal where a signal ended it
  std::string out;    // its stdout
  std::string talk;   // its stderr
};

// Starts the executable of this process with `arguments` (without argv[0]) and waits until it ends.
// If this process dies first, the child gets a SIGTERM. Throws Error if the child cannot be
// started.
ChildResult run_self(const std::vector<std::string>& arguments);

}  // namespace berth
