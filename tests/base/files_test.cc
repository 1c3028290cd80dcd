// Reading and writing files, the unusual ones too: pipes, devices, links.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "berth/error.h"
#include "planner/base/descriptor.h"
#include "planner/base/input_file.h"
#include "planner/base/output_file.h"
#include "planner/base/yaml.h"
#include "tests/error_of.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "berth-files-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  static std::string content(const fs::path& file) {
    std::ostringstream out;
    out << std::ifstream(file, std::ios::binary).rdbuf();
    return out.str();
  }
  fs::path make(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  fs::path make_pipe() const {
    const fs::path path = folder_ / "pipe";
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  std::ptrdiff_t entries() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  }

  fs::path folder_;
};

TEST_F(Files, DescriptorClosesItselfOnce) {
  int raw = -1;
  {
    Descriptor first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = first.get();
    const Descriptor second = std::move(first);
    EXPECT_EQ(second.get(), raw);
    EXPECT_EQ(::fcntl(raw, F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
}

TEST_F(Files, ReadsAFileAndALinkToIt) {
  const fs::path file = make("a", std::string("text\0more", 9));
  fs::create_symlink("a", folder_ / "link");
  EXPECT_EQ(read_text_file(file, 9), std::string("text\0more", 9));
  EXPECT_EQ(read_text_file(folder_ / "link", 9).size(), 9u);
  EXPECT_THAT(testing::error_of([&] { read_text_file(file, 8); }),
              HasSubstr("has 9 bytes, the limit for such a file is 8"));
}

// None of these may wait for a writer: without the check the test would hang.
TEST_F(Files, SaysAtOnceWhatIsNoRegularFile) {
  const fs::path pipe = make_pipe();
  const auto read_error = [](const fs::path& path) {
    return testing::error_of([&] { read_text_file(path, 100); });
  };
  EXPECT_THAT(read_error(pipe), EndsWith("pipe: is a pipe, which is not a regular file"));
  EXPECT_THAT(read_error(folder_), EndsWith("is a folder, which is not a regular file"));
  EXPECT_THAT(read_error("/dev/zero"), EndsWith("is a device, which is not a regular file"));
  EXPECT_THAT(read_error(folder_ / "none"),
              EndsWith("none: cannot be opened: No such file or directory"));
  EXPECT_THAT(testing::error_of([&] { read_yaml_file(pipe); }), HasSubstr("is a pipe"));

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const fs::path socket = folder_ / "socket";
  std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
  const Descriptor made(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::bind(made.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_THAT(read_error(socket), EndsWith("is a socket, which is not a regular file"));
}

TEST_F(Files, ReplacesAFileOnlyWhenItIsFinished) {
  const fs::path file = make("a", "old");
  {
    OutputFile out(file);
    out.write("half");
  }
  EXPECT_EQ(content(file), "old");
  EXPECT_EQ(entries(), 1);
  OutputFile out(file);
  out.write("new ");
  EXPECT_EQ(content(file), "old");
  out.write("text");
  out.finish();
  EXPECT_EQ(content(file), "new text");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, MakesFilesThatTheMaskAllows) {
  const mode_t mask = ::umask(027);
  write_file(folder_ / "a", "x");
  ::umask(mask);
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST_F(Files, WritesThroughLinksAndKeepsThem) {
  fs::create_directory(folder_ / "far");
  make("far/a", "old");
  fs::create_symlink("far/a", folder_ / "near");
  fs::create_symlink(folder_ / "near", folder_ / "link");
  write_file(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "near"));
  EXPECT_FALSE(fs::is_symlink(folder_ / "far/a"));
  EXPECT_EQ(content(folder_ / "far/a"), "new");

  fs::create_symlink("far/b", folder_ / "to_nothing");
  write_file(folder_ / "to_nothing", "made");
  EXPECT_TRUE(fs::is_symlink(folder_ / "to_nothing"));
  EXPECT_EQ(content(folder_ / "far/b"), "made");

  fs::create_symlink("circle", folder_ / "circle");
  EXPECT_THAT(testing::error_of([&] { write_file(folder_ / "circle", "x"); }),
              HasSubstr("circle: cannot be written: Too many levels of symbolic links"));
}

TEST_F(Files, WritesIntoAPipeAndKeepsIt) {
  const fs::path pipe = make_pipe();
  std::string got;
  std::thread reader([&] { got = content(pipe); });
  write_file(pipe, "through");
  reader.join();
  EXPECT_EQ(got, "through");
  EXPECT_TRUE(fs::is_fifo(pipe));
}

TEST_F(Files, WritesIntoDevicesAndKeepsThem) {
  fs::create_symlink("/dev/null", folder_ / "null");
  write_file(folder_ / "null", "nothing");
  EXPECT_TRUE(fs::is_symlink(folder_ / "null"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_THAT(testing::error_of([&] { write_file("/dev/full", "x"); }),
              HasSubstr("/dev/full: cannot be written: No space left on device"));
}

// /dev/stdout where stdout is a file: whoever opened it goes on with that one.
TEST_F(Files, WritesIntoAnOpenFileByItsNumber) {
  const fs::path file = make("a", "before ");
  const Descriptor open_file(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  write_file("/proc/self/fd/" + std::to_string(open_file.get()), "after");
  EXPECT_EQ(content(file), "before after");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, MakesAFileThatNobodyFinds) {
  const Descriptor file = make_nameless_file(folder_);
  ASSERT_GE(file.get(), 0);
  EXPECT_EQ(entries(), 0);
  ASSERT_EQ(::pwrite(file.get(), "abc", 3, 0), 3);
  char back[3] = {};
  EXPECT_EQ(::pread(file.get(), back, 3, 0), 3);
  EXPECT_EQ(std::string(back, 3), "abc");
  EXPECT_EQ(make_nameless_file(folder_ / "absent").get(), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST_F(Files, LeavesNothingWhereAFileCannotBeMade) {
  EXPECT_THAT(testing::error_of([&] { write_file(folder_ / "absent/a", "x"); }),
              HasSubstr("absent/a: cannot be written: No such file or directory"));
  fs::create_directory(folder_ / "taken");
  EXPECT_THAT(testing::error_of([&] { write_file(folder_ / "taken", "x"); }),
              HasSubstr("taken: cannot be written: Is a directory"));
  EXPECT_EQ(entries(), 1);
}

}  // namespace
}  // namespace berth
