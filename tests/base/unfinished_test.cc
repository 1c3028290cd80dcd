// What a signal takes away, and what it must not.
#include "planner/base/unfinished.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "planner/base/output_file.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

class UnfinishedThings : public ::testing::Test {
 protected:
  UnfinishedThings() {
    std::string name = (fs::temp_directory_path() / "berth-base-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~UnfinishedThings() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name) const {
    std::ofstream(folder_ / name) << "x";
    return folder_ / name;
  }
  fs::path folder_;
};

TEST_F(UnfinishedThings, AreRemovedWhileTheyAreRegistered) {
  const fs::path file = write("file");
  const fs::path kept = write("kept");
  const fs::path full = folder_ / "full";
  fs::create_directory(full);
  for (int i = 0; i < 500; ++i) write("full/" + std::to_string(i));
  { const Unfinished registered(kept); }
  const Unfinished one(file);
  const Unfinished other(full);
  remove_unfinished();
  EXPECT_FALSE(fs::exists(file));
  EXPECT_FALSE(fs::exists(full));
  EXPECT_TRUE(fs::exists(kept));
  remove_unfinished();  // again, as a second signal does
}

TEST_F(UnfinishedThings, ALinkIsRemovedAndNotWhatItLeadsTo) {
  fs::create_directory(folder_ / "theirs");
  write("theirs/precious");
  const fs::path link = folder_ / "link";
  fs::create_directory_symlink(folder_ / "theirs", link);
  const Unfinished registered(link);
  remove_unfinished();
  EXPECT_TRUE(fs::exists(folder_ / "theirs/precious"));
}

TEST_F(UnfinishedThings, AreForgottenWhereThereAreTooMany) {
  std::vector<std::optional<Unfinished>> many(20);
  for (int i = 0; i < 20; ++i) many[static_cast<std::size_t>(i)].emplace(write(std::to_string(i)));
  const Unfinished endless(fs::path(std::string(5000, 'x')));
  remove_unfinished();
  EXPECT_GT(std::distance(fs::directory_iterator(folder_), {}), 0);
}

TEST_F(UnfinishedThings, AFileThatIsWrittenIsOneUntilItIsFinished) {
  OutputFile file(folder_ / "plan.json");
  file.write("half");
  remove_unfinished();
  EXPECT_TRUE(fs::is_empty(folder_));
  write_file(folder_ / "plan.json", "{}");
  remove_unfinished();
  EXPECT_TRUE(fs::exists(folder_ / "plan.json"));
}

}  // namespace
}  // namespace berth
