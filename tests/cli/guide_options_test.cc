// The option tables of the documents are those of the option table.
//
// A table stands between two lines:
//   <!-- options: plan Placement Workload -->
//   <!-- end -->
// The first names a command and, if it is not all of its options, the headings in --help of those
// that are meant. `docs/make_options` writes the tables: it runs this test with
// BERTH_WRITE_OPTION_TABLES set.

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "berth/error.h"
#include "cli/options/option_table.h"

namespace berth {
namespace {

const std::string kBegin = "<!-- options: ";
const std::string kEnd = "<!-- end -->";

// What a first line asks for: options of a command.
struct Asked {
  Command command = Command::kPlan;
  std::vector<const OptionRow*> rows;
};

Asked asked_for(const std::string& line) {
  std::istringstream words(line.substr(kBegin.size()));
  std::string name, word;
  words >> name;
  std::set<std::string> headings;
  while (words >> word && word != "-->") headings.insert(word);
  const auto commands = command_table();
  const auto command = std::find_if(commands.begin(), commands.end(),
                                    [&](const CommandRow& one) { return one.name == name; });
  if (command == commands.end()) throw Error("'" + line + "' names no command");
  std::set<std::string> found;
  Asked asked{command->command, {}};
  for (const OptionRow& row : option_table()) {
    if (!row.taken_by(command->command) || row.is_hidden()) continue;
    const std::string group(heading(row, *command));
    if (!headings.empty() && headings.count(group) == 0) continue;
    found.insert(group);
    asked.rows.push_back(&row);
  }
  for (const std::string& one : headings) {
    if (found.count(one) == 0) throw Error("'" + line + "': no options under " + one);
  }
  return asked;
}

std::string code(std::string_view text) { return "`" + std::string(text) + "`"; }

std::string table_of(const Asked& asked) {
  const bool keys = in(kPlanning, asked.command);  // others take no deployment file
  std::string out = keys ? "| option | in a deployment file | meaning | default |\n"
                           "| --- | --- | --- | --- |\n"
                         : "| option | meaning | default |\n| --- | --- | --- |\n";
  for (const OptionRow* row : asked.rows) {
    const std::string shape = row->shape.empty() ? "" : " " + std::string(row->shape);
    out += "| " + code(std::string(row->flag) + shape) + " | ";
    if (keys) out += row->key.empty() ? "| " : code(row->key) + " | ";
    out += (row->guide.empty() ? row->help_text() : row->guide_text()) + " | ";
    out += std::string(row->otherwise) + (row->otherwise.empty() ? "|\n" : " |\n");
  }
  return out;
}

// A document with its option tables as they should be; `shown` gets the rows that stand in one.
std::string with_tables(const std::string& text, std::set<const OptionRow*>& shown) {
  std::istringstream lines(text);
  std::string out, line;
  while (std::getline(lines, line)) {
    out += line + "\n";
    if (line.rfind(kBegin, 0) != 0) continue;
    const Asked asked = asked_for(line);
    shown.insert(asked.rows.begin(), asked.rows.end());
    out += table_of(asked);
    while (std::getline(lines, line) && line != kEnd) {
      if (line.empty() || line[0] != '|') throw Error("'" + line + "' stands in an option table");
    }
    if (line != kEnd) throw Error("an option table has no end");
    out += kEnd + "\n";
  }
  return out;
}

std::string content(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

// The first line in which a document is not as it should be.
std::string first_difference(const std::string& is, const std::string& should) {
  std::istringstream is_lines(is), should_lines(should);
  std::string is_line, should_line;
  for (int number = 1; std::getline(should_lines, should_line); ++number) {
    std::getline(is_lines, is_line);
    if (is_line == should_line) continue;
    return "line " + std::to_string(number) + " is\n" + is_line + "\nand should be\n" + should_line;
  }
  return "it is too long";
}

TEST(GuideOptions, AreThoseOfTheOptionTable) {
  std::set<const OptionRow*> shown;
  for (const char* name : {"docs/guide.md", "docs/calibrate.md"}) {
    const std::filesystem::path file = std::filesystem::path(BERTH_SOURCE_DIR) / name;
    const std::string text = content(file);
    ASSERT_FALSE(text.empty()) << name;
    const std::string right = with_tables(text, shown);
    if (std::getenv("BERTH_WRITE_OPTION_TABLES") != nullptr) {
      if (right != text) std::ofstream(file, std::ios::binary) << right;
      continue;
    }
    EXPECT_TRUE(text == right) << name << ": write its option tables anew with docs/make_options; "
                               << first_difference(text, right);
  }
  for (const OptionRow& row : option_table()) {
    EXPECT_TRUE(row.is_hidden() || shown.count(&row) == 1)
        << row.flag << " (" << row.help << ") stands in no table of the documents";
  }
}

TEST(GuideOptions, RefuseATableThatCannotBeMeant) {
  std::set<const OptionRow*> shown;
  EXPECT_THROW(with_tables("<!-- options: fly -->\n<!-- end -->\n", shown), Error);
  EXPECT_THROW(with_tables("<!-- options: plan Reading -->\n<!-- end -->\n", shown), Error);
  EXPECT_THROW(with_tables("<!-- options: plan -->\n| a |\n", shown), Error);
  EXPECT_THROW(with_tables("<!-- options: plan -->\ntext\n<!-- end -->\n", shown), Error);
}

}  // namespace
}  // namespace berth
