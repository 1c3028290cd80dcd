#include "cli/process/terminal.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace berth {

bool is_terminal(Stream stream) {
  return ::isatty(stream == Stream::kStdout ? STDOUT_FILENO : STDERR_FILENO) == 1;
}

bool wants_colour(Stream stream) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  if (no_colour && *no_colour) return false;
  if (term && std::string_view(term) == "dumb") return false;
  return is_terminal(stream);
}

void write_stderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace berth
