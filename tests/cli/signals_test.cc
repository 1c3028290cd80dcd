// Whatever signal ends the program, nothing half-made stays.
#include "cli/process/signals.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "cli/process/bus_guard.h"
#include "cli/process/interrupt.h"
#include "planner/base/output_file.h"
#include "tests/cli/temporary_folder.h"

namespace berth::testing {
namespace {

using SignalsDeathTest = ::testing::TestWithParam<int>;

// Writes half a file, then gets the signal.
[[noreturn]] void get_signal_while_writing(const std::filesystem::path& file, int signal) {
  tidy_up_on_signals();
  OutputFile out(file);
  out.write("half");
  ::raise(signal);
  ::_exit(99);
}

TEST_P(SignalsDeathTest, EndTheProcessAsEverAndLeaveNothing) {
  const TemporaryFolder folder;
  EXPECT_EXIT(get_signal_while_writing(folder.path() / "plan.json", GetParam()),
              ::testing::KilledBySignal(GetParam()), "");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

INSTANTIATE_TEST_SUITE_P(Deadly, SignalsDeathTest,
                         ::testing::Values(SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGUSR1, SIGUSR2,
                                           SIGALRM, SIGTERM, SIGXCPU, SIGVTALRM, SIGPROF, SIGPWR,
                                           SIGSYS, 34, 64));

TEST(Signals, ThatAreIgnoredStayIgnored) {
  EXPECT_EXIT(
      {
        std::signal(SIGUSR1, SIG_IGN);
        tidy_up_on_signals();
        ::raise(SIGUSR1);
        ::raise(SIGPIPE);
        ::raise(SIGXFSZ);
        ::_exit(7);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(Signals, TheSecondThatAsksToStopTidiesUpToo) {
  const TemporaryFolder folder;
  EXPECT_EXIT(
      {
        tidy_up_on_signals();
        const InterruptGuard guard;
        OutputFile out(folder.path() / "logits");
        ::raise(SIGINT);
        if (!*guard.flag()) ::_exit(1);
        ::raise(SIGTERM);
        ::_exit(2);
      },
      ::testing::KilledBySignal(SIGTERM), "");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Signals, ABusErrorTidiesUpToo) {
  const TemporaryFolder folder;
  EXPECT_EXIT(
      {
        explain_bus_errors();
        OutputFile out(folder.path() / "logits");
        ::raise(SIGBUS);
        ::raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Signals, AFinishedFileStays) {
  const TemporaryFolder folder;
  EXPECT_EXIT(
      {
        tidy_up_on_signals();
        write_file(folder.path() / "plan.json", "{}");
        ::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "plan.json"));
}

}  // namespace
}  // namespace berth::testing
