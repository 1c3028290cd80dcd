#include "cli/process/signals.h"

#include <array>
#include <atomic>
#include <csignal>

#include "planner/base/unfinished.h"

namespace berth {
namespace {

using Remove = void (*)() noexcept;
std::array<std::atomic<Remove>, 4> removers;
static_assert(std::atomic<Remove>::is_always_lock_free, "read in a signal handler");

// Those whose default is to end the process, real-time signals aside. SIGKILL cannot be handled.
constexpr std::array kDeadly{SIGHUP,  SIGINT,    SIGQUIT, SIGILL,  SIGTRAP, SIGABRT, SIGBUS,
                             SIGFPE,  SIGUSR1,   SIGSEGV, SIGUSR2, SIGALRM, SIGTERM, SIGSTKFLT,
                             SIGXCPU, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR,  SIGSYS};

void on_deadly(int signal) { end_by_signal(signal); }

void tidy_up_on(int signal) {
  struct sigaction now {};
  if (::sigaction(signal, nullptr, &now) != 0) return;
  if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) return;
  now.sa_handler = on_deadly;
  ::sigaction(signal, &now, nullptr);
}

}  // namespace

void tidy_up_on_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  for (const int signal : kDeadly) tidy_up_on(signal);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) tidy_up_on(signal);
}

void also_tidy_up(Remove remove) {
  for (std::atomic<Remove>& place : removers) {
    Remove none = nullptr;
    if (place.compare_exchange_strong(none, remove)) return;
  }
}

void tidy_up() noexcept {
  remove_unfinished();
  for (const std::atomic<Remove>& remove : removers) {
    if (const Remove call = remove.load()) call();
  }
}

void end_by_signal(int signal) noexcept {
  tidy_up();
  std::signal(signal, SIG_DFL);
  ::raise(signal);  // it is blocked while its handler runs
}

}  // namespace berth
