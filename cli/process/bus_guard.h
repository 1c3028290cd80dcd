// Explains a SIGBUS in one line of error instead of letting it kill the process without a word.
//
// Weights may be pages of the checkpoint's files. Where somebody cuts such a file short, or its
// disk fails, while it is mapped, touching the page raises SIGBUS. No library may take that signal
// over; a program may.
#pragma once

namespace berth {

// From now on until the process ends, a SIGBUS inside a mapped file writes
//   error: FILE: byte N: ...
// to stderr and ends the process with exit code 1. Any other SIGBUS ends it as it always did.
void explain_bus_errors();

}  // namespace berth
