// What happens when a signal ends the program: half-made files and folders are taken away first.
#pragma once

namespace berth {

// From now on every signal that would end the process without a word first removes what is
// registered as unfinished (planner/base/unfinished.h); then the process ends as it would have
// done. Signals that are ignored or handled by others stay so. SIGXFSZ becomes an error of write(),
// "File too large", and SIGPIPE one of a write to a reader that went away (| head).
void tidy_up_on_signals();

// Libraries have registers of their own: also calls `remove`, which must be async-signal-safe. For
// a few of them, once each.
void also_tidy_up(void (*remove)() noexcept);

// Removes what is unfinished now, here and in the libraries. Async-signal-safe.
void tidy_up() noexcept;

// From a signal handler: tidies up, and ends the process by `signal` when the handler returns.
void end_by_signal(int signal) noexcept;

}  // namespace berth
