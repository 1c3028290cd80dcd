// What a conversion leaves that is ended by a signal, and who takes it away.
#include "runtime/convert/leftovers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "planner/base/unfinished.h"
#include "runtime/convert/output_folder.h"
#include "tests/load/support.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Leftovers : public ::testing::Test {
 protected:
  // Runs `work` in a child, which ends without running destructors; returns its wait status.
  template <typename Work>
  int in_child(Work work) {
    const pid_t child = ::fork();
    if (child == 0) {
      work();
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }
  // A conversion to `out` that is killed half-way.
  void kill_half_way() {
    in_child([this] {
      OutputFolder folder(out_);
      folder.write(folder.create("model.safetensors", 10), 0, "0123456789");
      ::raise(SIGKILL);
    });
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }
  // The only unfinished folder.
  fs::path part() const {
    for (const std::string& name : names()) {
      if (name.starts_with("out.part-")) return folder_.path() / name;
    }
    return {};
  }

  testing::TempFolder folder_;
  fs::path out_ = folder_.path() / "out";
};

TEST_F(Leftovers, OfAKilledConversionAreNamedAndRemoved) {
  kill_half_way();
  kill_half_way();
  EXPECT_EQ(names().size(), 2u);
  const std::vector<std::string> said = clear_leftovers(out_.string() + "/");
  ASSERT_EQ(said.size(), 2u);
  EXPECT_THAT(said[0], AllOf(HasSubstr("out.part-"), HasSubstr(": removed, because")));
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_THAT(clear_leftovers(out_), IsEmpty());
  EXPECT_THAT(clear_leftovers(folder_.path() / "no/such/out"), IsEmpty());
}

TEST_F(Leftovers, OfALivingConversionStay) {
  OutputFolder folder(out_);
  folder.create("model.safetensors", 10);
  EXPECT_THAT(clear_leftovers(out_), IsEmpty());
  EXPECT_FALSE(part().empty());
  folder.commit();
  EXPECT_THAT(names(), ElementsAre("out"));
  EXPECT_EQ(std::distance(fs::directory_iterator(out_), {}), 1) << "no marker is left";
}

TEST_F(Leftovers, WithWhatBerthDidNotWriteStay) {
  kill_half_way();
  std::ofstream(part() / "notes.txt") << "mine";
  ASSERT_THAT(clear_leftovers(out_),
              ElementsAre(AllOf(HasSubstr("not removed"), HasSubstr("'notes.txt'"))));
  EXPECT_TRUE(fs::exists(part() / "model.safetensors"));
  fs::remove(part() / "notes.txt");
  fs::create_directory_symlink(folder_.path(), part() / "link");
  ASSERT_THAT(clear_leftovers(out_), ElementsAre(HasSubstr("'link'")));
}

TEST_F(Leftovers, OfOthersStay) {
  kill_half_way();
  const fs::path killed = part();
  const fs::path theirs = folder_.path() / "out.part-abcdef";
  const fs::path other = folder_.path() / "out2.part-abcdef";
  const fs::path link = folder_.path() / "out.part-link00";
  fs::create_directory(theirs);
  std::ofstream(theirs / "model.safetensors") << "theirs";
  std::ofstream(theirs / ".berth-unfinished") << "not what berth writes\nmodel.safetensors\n";
  fs::rename(killed, other);
  fs::create_directory_symlink(other, link);
  EXPECT_THAT(clear_leftovers(out_), IsEmpty());
  EXPECT_TRUE(fs::exists(theirs / "model.safetensors"));
  EXPECT_TRUE(fs::exists(other / "model.safetensors"));
  EXPECT_THAT(clear_leftovers(folder_.path() / "out2"), ElementsAre(HasSubstr("removed")));
}

TEST_F(Leftovers, AListCannotLeadOutOfTheFolder) {
  kill_half_way();
  std::ofstream(folder_.path() / "precious") << "x";
  std::ofstream(part() / ".berth-unfinished", std::ios::app) << "../precious\n";
  clear_leftovers(out_);
  EXPECT_THAT(names(), ElementsAre("precious"));
}

TEST_F(Leftovers, OfASignalAreRemovedByItsHandler) {
  const int status = in_child([this] {
    OutputFolder folder(out_);
    for (int i = 0; i < 300; ++i) {
      folder.write(folder.create("model-" + std::to_string(i), 4), 0, "0123");
    }
    remove_unfinished();
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(Leftovers, AFinishedFolderIsNotRemovedByASignal) {
  in_child([this] {
    OutputFolder folder(out_);
    folder.write(folder.create("model.safetensors", 4), 0, "0123");
    folder.commit();
    remove_unfinished();
  });
  EXPECT_TRUE(fs::exists(out_ / "model.safetensors"));
}

TEST_F(Leftovers, TheFolderHasTheUsualPermissions) {
  in_child([this] {
    ::umask(027);
    OutputFolder(out_).commit();
  });
  EXPECT_EQ(fs::status(out_).permissions(), static_cast<fs::perms>(0750));
}

}  // namespace
}  // namespace berth
