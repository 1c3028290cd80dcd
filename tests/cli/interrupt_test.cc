// The signals that stop a command in good order.
#include "cli/process/interrupt.h"

#include <gtest/gtest.h>

#include <csignal>

#include "berth/error.h"
#include "tests/error_of.h"

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

TEST(Interrupt, IsToldOnce) {
  const InterruptGuard guard;
  ::raise(SIGINT);
  EXPECT_EQ(testing::error_of([&] { guard.run([] { throw Interrupted(); }); }),
            "interrupted; nothing was kept");
}

TEST(Interrupt, IsSaidBeforeWhatFailedMeanwhile) {
  const InterruptGuard guard;
  const auto fails = [] { throw Error("m.safetensors: cannot be read"); };
  EXPECT_EQ(testing::error_of([&] { guard.run(fails); }), "m.safetensors: cannot be read");
  ::raise(SIGINT);
  EXPECT_EQ(testing::error_of([&] { guard.run(fails); }),
            "interrupted: m.safetensors: cannot be read");
}

}  // namespace
}  // namespace berth
