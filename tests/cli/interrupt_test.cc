// The signals that stop a command in good order.
#include "cli/interrupt.h"

#include <gtest/gtest.h>

#include <csignal>

namespace berth {
namespace {

TEST(Interrupt, IsAFlagForEverySignalThatAsksToStop) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const InterruptGuard guard;
    EXPECT_FALSE(*guard.flag());
    ::raise(signal);
    EXPECT_TRUE(*guard.flag()) << signal;
  }
}

TEST(Interrupt, LeavesAClosedTerminalToNohup) {
  const auto before = std::signal(SIGHUP, SIG_IGN);
  {
    const InterruptGuard guard;
    ::raise(SIGHUP);
    EXPECT_FALSE(*guard.flag());
  }
  EXPECT_EQ(std::signal(SIGHUP, before), SIG_IGN);
}

}  // namespace
}  // namespace berth
