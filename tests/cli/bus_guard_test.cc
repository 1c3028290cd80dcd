// A file cut short under a mapping ends the process with one line, not with a signal.
#include "cli/process/bus_guard.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

namespace berth {
namespace {

class BusGuard : public ::testing::Test {
 protected:
  void SetUp() override {
    name_ = (std::filesystem::temp_directory_path() / "berth bus-XXXXXX").string();
    const int fd = ::mkstemp(name_.data());
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::ftruncate(fd, 8 * 4096), 0);
    // Mapped from the second page on: the offset in the file is not that in the mapping.
    void* data = ::mmap(nullptr, 7 * 4096, PROT_READ, MAP_PRIVATE, fd, 4096);
    ASSERT_NE(data, MAP_FAILED);
    data_ = static_cast<volatile char*>(data);
    ASSERT_EQ(::ftruncate(fd, 4096), 0);
    ::close(fd);
  }
  void TearDown() override { ::unlink(name_.c_str()); }

  std::string name_;
  volatile char* data_ = nullptr;
};

using BusGuardDeathTest = BusGuard;

TEST_F(BusGuardDeathTest, NamesTheFileAndTheOffsetAndExitsWithOne) {
  EXPECT_EXIT(
      {
        explain_bus_errors();
        static_cast<void>(data_[4096 + 5]);
      },
      ::testing::ExitedWithCode(1), "error: .*berth bus-.*: byte 8197: cannot be read any more");
}

TEST_F(BusGuardDeathTest, LeavesOtherBusErrorsAsTheyAre) {
  EXPECT_EXIT(
      {
        explain_bus_errors();
        ::raise(SIGBUS);
        ::raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace berth
