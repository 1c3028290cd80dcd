#include "planner/checkpoint/name_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace berth {
namespace {

// Adds names one by one as a reader does: a name that is there already is not kept.
struct Reader {
  std::vector<std::string> names;
  UniqueNames unique;

  std::uint32_t add(const std::string& name) {
    const auto name_of = [this](std::uint32_t i) -> std::string_view { return names[i]; };
    const std::uint32_t known = unique.add(name, name_of);
    if (known == NameTable::kAbsent) names.push_back(name);
    return known;
  }
};

TEST(UniqueNames, TellsAscendingNamesApartWithoutATable) {
  Reader reader;
  for (const char* name : {"a", "a.b", "a.b.c", "b", "b1"}) {
    EXPECT_EQ(reader.add(name), NameTable::kAbsent) << name;
  }
  EXPECT_TRUE(reader.unique.ascending());
  EXPECT_EQ(reader.add("b1"), 4u);
}

TEST(UniqueNames, RemembersWhatCameBeforeTheFirstThatDoesNotAscend) {
  Reader reader;
  for (const char* name : {"b", "c", "d", "a"}) {
    EXPECT_EQ(reader.add(name), NameTable::kAbsent) << name;
  }
  EXPECT_FALSE(reader.unique.ascending());
  EXPECT_EQ(reader.add("c"), 1u);
  EXPECT_EQ(reader.add("a"), 3u);
  EXPECT_EQ(reader.add("e"), NameTable::kAbsent);
}

TEST(UniqueNames, StartsAgainAtAnyNumber) {
  Reader reader;
  for (const char* name : {"b", "a"}) reader.add(name);
  reader.unique.restart(2);
  EXPECT_TRUE(reader.unique.ascending());
  EXPECT_EQ(reader.add("a"), NameTable::kAbsent) << "known before the restart alone";
  EXPECT_EQ(reader.add("a"), 2u);
}

TEST(UniqueNames, AgreesWithAPlainSearch) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    Reader reader;
    for (int i = 0; i < 30; ++i) {
      const std::string name = std::to_string(random() % 40 + (round % 2 == 0 ? 10 * i : 0));
      const auto at = std::find(reader.names.begin(), reader.names.end(), name);
      const auto expected = at == reader.names.end()
                                ? NameTable::kAbsent
                                : static_cast<std::uint32_t>(at - reader.names.begin());
      ASSERT_EQ(reader.add(name), expected) << name;
    }
  }
}

}  // namespace
}  // namespace berth
