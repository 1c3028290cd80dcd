// Tells whether a stream is a terminal, and writes messages to stderr.
#pragma once

#include <string_view>

namespace berth {

enum class Stream { kStdout, kStderr };

bool is_terminal(Stream stream);

// True on a terminal, unless NO_COLOR is set to anything (no-color.org) or TERM is "dumb".
bool wants_colour(Stream stream);

// Writes to stderr at once. Failures are ignored, because there is nowhere to report them.
void write_stderr(std::string_view text);

}  // namespace berth
