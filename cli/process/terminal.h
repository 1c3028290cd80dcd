// What a stream is connected to, and talk on stderr.
#pragma once

#include <string_view>

namespace berth {

enum class Stream { kStdout, kStderr };

bool is_terminal(Stream stream);

// True on a terminal, unless NO_COLOR is set to anything (no-color.org) or TERM is "dumb".
bool wants_colour(Stream stream);

// Writes to stderr; failures are nobody's to hear about and are ignored.
void write_stderr(std::string_view text);

}  // namespace berth
