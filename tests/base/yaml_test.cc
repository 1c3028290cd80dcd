// Strict YAML: what is read, and the exact words of every error.
#include "planner/base/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "berth/error.h"
#include "planner/base/yaml_quote.h"
#include "tests/failing_new.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

YamlMap map_of(const std::string& text) { return YamlMap(parse_yaml(text, "f.yaml")); }

template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string parse_message(const std::string& text) {
  return message_of([&] { parse_yaml(text, "f.yaml"); });
}

// Reads everything, as the strictest caller would. Returns how many values there are.
std::size_t walk(const YamlValue& value) {
  if (value.is_mapping()) {
    YamlMap map(value);
    std::size_t nodes = 1;
    for (const std::string& key : map.keys())
      if (const auto child = map.get(key)) nodes += walk(*child);
    map.finish();
    return nodes;
  }
  if (!value.is_list()) return 1;
  std::size_t nodes = 1;
  for (const YamlValue& item : value.as_list()) nodes += walk(item);
  return nodes;
}

TEST(Yaml, ReadsEveryKindOfScalar) {
  YamlMap map =
      map_of("text: 0\nquoted: \"1\"\nint: -12\nplus: +3\nnum: 1.5e3\nyes: true\nno: False");
  EXPECT_EQ(map.require("text").as_text(), "0");
  EXPECT_EQ(map.require("quoted").as_text(), "1");
  EXPECT_EQ(map.require("int").as_integer(), -12);
  EXPECT_EQ(map.require("plus").as_integer(), 3);
  EXPECT_EQ(map.require("num").as_number(), 1500.0);
  EXPECT_TRUE(map.require("yes").as_boolean());
  EXPECT_FALSE(map.require("no").as_boolean());
  map.finish();
}

TEST(Yaml, NamesFileLineAndFieldOfAnUnknownKeyWithTheNearestKnownOne) {
  YamlMap top = map_of("name: x\ndevices:\n  - {name: a}\n  - name: b\n    capcity: 3\n");
  top.require("name");
  const auto devices = top.require("devices").as_list();
  YamlMap second(devices.at(1));
  second.get("name");
  second.get("capacity");
  EXPECT_EQ(message_of([&] { second.finish(); }),
            "f.yaml:5: devices[1].capcity: unknown key (did you mean 'capacity'?)");
}

TEST(Yaml, TakesAMisspeltKeyForTheRequiredOneThatIsMissing) {
  YamlMap map = map_of("nmae: x\nname2: y");
  EXPECT_EQ(message_of([&] { map.require("name"); }),
            "f.yaml:1: nmae: unknown key (did you mean 'name'?)");
  map.get("nmae");
  map.get("name2");
  EXPECT_EQ(message_of([&] { map.require("name"); }), "f.yaml:1: 'name' is missing");
}

TEST(Yaml, ListsKnownKeysWhereNoneIsNear) {
  YamlMap map = map_of("zzz: 1");
  map.get("name");
  map.get("kind");
  EXPECT_EQ(message_of([&] { map.finish(); }),
            "f.yaml:1: zzz: unknown key (known here: name, kind)");
}

TEST(Yaml, DoesNotTakeALackOfMemoryForAnErrorInTheFile) {
  std::string text = "list: &l [x, y, z]\nsame: *l\n";
  for (int i = 0; i < 200; ++i) text += "key" + std::to_string(i) + ": a longer text than most\n";
  std::size_t refused = 0;
  bool blamed = false;
  for (int after = 0; after < 300; ++after) {
    const berth::testing::OutOfMemory out_of_memory(after);
    try {
      parse_yaml(text, "f.yaml");
    } catch (const std::bad_alloc&) {
      ++refused;
    } catch (const std::exception&) {
      blamed = true;
    }
  }
  EXPECT_GT(refused, 10u);
  EXPECT_FALSE(blamed);
}

TEST(Yaml, RefusesADuplicateKeyAndNamesBothLines) {
  EXPECT_EQ(message_of([] { map_of("a: 1\nb: 2\na: 3"); }),
            "f.yaml:3: a: given twice (first on line 1)");
}

TEST(Yaml, RefusesKeysThatAreNoText) {
  EXPECT_THAT(message_of([] { map_of("{[1, 2]: 3}"); }),
              HasSubstr("a key must be text, found a list"));
  EXPECT_THAT(message_of([] { map_of("? {a: b}\n: 3"); }), HasSubstr("found a mapping"));
  EXPECT_THAT(message_of([] { map_of("~: 3"); }), HasSubstr("found nothing"));
}

TEST(Yaml, RefusesWrongTypes) {
  YamlMap map = map_of(
      "a: [1]\nb: {c: 1}\nc: word\nd:\ne: '4'\nf: yes\ng: 1.5\nh: .inf\ni: "
      "99999999999999999999\nj: 1e999");
  EXPECT_EQ(message_of([&] { map.require("a").as_text(); }),
            "f.yaml:1: a: expected text, found a list");
  EXPECT_EQ(message_of([&] { map.require("b").as_integer(); }),
            "f.yaml:2: b: expected a whole number, found a mapping");
  EXPECT_EQ(message_of([&] { map.require("c").as_number(); }),
            "f.yaml:3: c: expected a number, found 'word'");
  EXPECT_EQ(message_of([&] { map.require("c").as_list(); }),
            "f.yaml:3: c: expected a list, found 'word'");
  EXPECT_EQ(message_of([&] { YamlMap inner(map.require("c")); }),
            "f.yaml:3: c: expected a mapping, found 'word'");
  EXPECT_EQ(message_of([&] { map.require("e").as_integer(); }),
            "f.yaml:5: e: expected a whole number, found text in quotes, '4'");
  EXPECT_EQ(message_of([&] { map.require("f").as_boolean(); }),
            "f.yaml:6: f: expected true or false, found 'yes'");
  EXPECT_EQ(message_of([&] { map.require("g").as_integer(); }),
            "f.yaml:7: g: expected a whole number, found '1.5'");
  EXPECT_THAT(message_of([&] { map.require("h").as_number(); }), HasSubstr("expected a number"));
  EXPECT_THAT(message_of([&] { map.require("i").as_integer(); }), HasSubstr("too large"));
  EXPECT_THAT(message_of([&] { map.require("j").as_number(); }), HasSubstr("out of range"));
}

TEST(Yaml, TakesANullForAnAbsentValueButKnowsTheKey) {
  YamlMap map = map_of("a:\nb: 1");
  EXPECT_TRUE(map.has("a"));
  EXPECT_FALSE(map.has("c"));
  EXPECT_FALSE(map.get("a").has_value());
  EXPECT_EQ(message_of([&] { map.require("a"); }), "f.yaml:1: 'a' is missing");
  EXPECT_THAT(map.keys(), ElementsAre("a", "b"));
  map.finish();
}

TEST(Yaml, SaysWhatAnEmptyFileLacks) {
  EXPECT_EQ(message_of([] { map_of(""); }), "f.yaml:1: expected a mapping, found nothing");
  EXPECT_EQ(message_of([] { map_of("# only words\n"); }),
            "f.yaml:1: expected a mapping, found nothing");
}

TEST(Yaml, NamesTheLineOfBadSyntax) {
  EXPECT_THAT(parse_message("a: 1\nb: [1, 2\nc: 3\n"), StartsWith("f.yaml:3: not valid YAML: "));
  EXPECT_THAT(parse_message("a: 1\nb: *nobody\n"), StartsWith("f.yaml:2: not valid YAML: "));
  EXPECT_THAT(parse_message("{a: 1} ]\n"), StartsWith("f.yaml:1: "));
  EXPECT_EQ(parse_message("a: 1\nb: [1, 2\nc]: 3 }\n"),
            "f.yaml:3: not valid YAML: mapping values are not allowed in this context");
  EXPECT_EQ(parse_message("a:\n  - [1,\n     2}\n"),
            "f.yaml:3: not valid YAML: did not find expected ',' or ']' while parsing a flow "
            "sequence that begins on line 2");
  for (const char* text : {"a: [\xc3\xa9", "a: [1\n", "a: [1\r\n", "a: [1\r",
                           "\xef\xbb\xbf"
                           "a: [1\n"})
    EXPECT_EQ(parse_message(text),
              "f.yaml:1: not valid YAML: did not find expected ',' or ']' while parsing a flow "
              "sequence")
        << text;
  EXPECT_EQ(parse_message("a: 1\nb"),
            "f.yaml:2: not valid YAML: could not find expected ':' while scanning a simple key");
  EXPECT_EQ(parse_message("a:\n\tb: 1\n"),
            "f.yaml:2: not valid YAML: found character that cannot start any token (a tab) while "
            "scanning for the next token");
  EXPECT_EQ(parse_message("\xef\xbb\xbf"
                          "a: \xc3\xa9\nb: @c\n"),
            "f.yaml:2: not valid YAML: found character that cannot start any token ('@') while "
            "scanning for the next token");
  EXPECT_EQ(parse_message("a: 1\nb: \xc2\x80\n"),
            "f.yaml:2: not valid YAML: control characters are not allowed");
  EXPECT_EQ(parse_message("a: 1\n" + std::string(1025, 'k') + ": 2\n"),
            "f.yaml:2: not valid YAML: could not find expected ':' while scanning a simple key");
  EXPECT_EQ(parse_message(std::string(1024, 'k') + ": 2\n"), "no error");
}

TEST(Yaml, RefusesASecondDocument) {
  EXPECT_EQ(parse_message("a: 1\n---\nb: 2\n"), "f.yaml:2: a second document; only one is read");
  EXPECT_EQ(parse_message("---\na: 1\n...\n"), "no error");
}

TEST(Yaml, RefusesDeepNestingOfEveryForm) {
  std::string block;
  for (int i = 0; i < 70; ++i) block += std::string(i, ' ') + "a:\n";
  std::string compact, question;
  for (int i = 0; i < 5000; ++i) compact += "- ", question += "? ";
  for (const std::string& text :
       {std::string(100000, '['), std::string(5000, '['), std::string(100000, '{'), block,
        compact + "x", question + "x", std::string(65, '[') + std::string(65, ']')})
    EXPECT_THAT(parse_message(text), HasSubstr("nested deeper than 64 levels"))
        << text.substr(0, 40);
  EXPECT_EQ(parse_message(std::string(64, '[') + std::string(64, ']')), "no error");
}

TEST(Yaml, RefusesAliasesThatExplode) {
  std::ostringstream bomb;
  bomb << "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb << "a" << i << ": &a" << i << " [";
    for (int j = 0; j < 9; ++j) bomb << (j ? ", *a" : "*a") << i - 1;
    bomb << "]\n";
  }
  EXPECT_THAT(parse_message(bomb.str()), HasSubstr("once aliases are expanded"));
}

// libyaml compares each with all others.
TEST(Yaml, RefusesManyTagDirectives) {
  const auto text = [](int directives) {
    std::string lines;
    for (int i = 0; i < directives; ++i) lines += "%TAG !" + std::to_string(i) + "! tag:x\n";
    return lines + "---\na: 1\n";
  };
  EXPECT_EQ(parse_message(text(64)), "no error");
  EXPECT_EQ(parse_message(text(65)), "f.yaml: more than 64 %TAG directives");
}

TEST(Yaml, CountsTheDepthThatAliasesAdd) {
  std::ostringstream text;
  text << "a0: &a0 [x]\n";
  for (int i = 1; i < 80; ++i) text << "a" << i << ": &a" << i << " [*a" << i - 1 << "]\n";
  EXPECT_THAT(parse_message(text.str()), HasSubstr("nested deeper than 64 levels"));
}

TEST(Yaml, RefusesAnAliasInsideItsOwnAnchor) {
  EXPECT_EQ(parse_message("a: &x\n  - *x\n"), "f.yaml:2: an alias inside its own anchor");
}

TEST(Yaml, ReadsAliasesAsTheNodeTheyStandFor) {
  YamlMap map = map_of("a: &x [1, 2]\nb: *x\nc: &x 3\nd: *x\n");
  EXPECT_EQ(map.require("b").as_list().at(1).as_integer(), 2);
  EXPECT_EQ(map.require("d").as_integer(), 3) << "the last one of that name";
  EXPECT_EQ(parse_message("a: &x [&x 1, *x]\n"), "no error");
  EXPECT_EQ(parse_message("a: &x 1\nb: &x [*x]\n"), "f.yaml:2: an alias inside its own anchor");
  EXPECT_EQ(parse_message("a: 1\nb: *x\n"), "f.yaml:2: not valid YAML: no anchor is called 'x'");
}

TEST(Yaml, NamesTheAliasAndOfWhatIsInItThePlaceOfItsAnchor) {
  YamlMap map = map_of("a: &x [one]\nb: &y two\nc: {d: *x, e: [*y]}\n");
  YamlMap inner(map.require("c"));
  EXPECT_EQ(message_of([&] { inner.require("d").as_integer(); }),
            "f.yaml:1: c.d: expected a whole number, found a list");
  EXPECT_EQ(message_of([&] { inner.require("d").as_list()[0].as_integer(); }),
            "f.yaml:1: a[0]: expected a whole number, found 'one'");
  EXPECT_EQ(message_of([&] { inner.require("e").as_list()[0].as_integer(); }),
            "f.yaml:2: c.e[0]: expected a whole number, found 'two'");
}

// Null, as YAML's core schema has it, is only a plain scalar without a tag.
TEST(Yaml, KnowsNullsAndTexts) {
  for (const char* null : {"", "~", "null", "Null", "NULL", "&a", "&a ~", "# none"})
    EXPECT_FALSE(map_of(std::string("a: ") + null).get("a")) << null;
  for (const char* text : {"'~'", "\"\"", "nULL", "!!str", "!!str null", "! ''"})
    EXPECT_TRUE(map_of(std::string("a: ") + text).get("a")) << text;
  for (const char* text :
       {"'5'", "\"5\"", "|-\n 5", ">-\n 5", "!!str 5", "!!str '5'", "! 5", "! '5'"})
    EXPECT_THAT(message_of([&] { map_of(std::string("a: ") + text).require("a").as_integer(); }),
                HasSubstr("found text in quotes, '5'"))
        << text;
  EXPECT_EQ(map_of("a: !!int '5'").require("a").as_integer(), 5);
}

TEST(Yaml, CountsLinesOfEveryEnding) {
  for (const char* end : {"\n", "\r\n", "\r"}) {
    const std::string text = std::string("\xef\xbb\xbf# one") + end + end + "a: >-" + end + "  b" +
                             end + "  c" + end + "d: [e," + end + " f]" + end;
    YamlMap map = map_of(text);
    EXPECT_EQ(map.require("a").as_text(), "b c");
    EXPECT_EQ(message_of([&] { map.require("d").as_list().at(1).as_integer(); }),
              "f.yaml:7: d[1]: expected a whole number, found 'f'");
  }
}

TEST(Yaml, RefusesBytesThatAreNoText) {
  EXPECT_EQ(parse_message(std::string("a: 1\n\0b", 7)), "f.yaml:2: not YAML: control byte '\\x00'");
  EXPECT_THAT(parse_message("a: 1\n\x04 hidden: 2"), HasSubstr("control byte '\\x04'"));
  EXPECT_THAT(parse_message("a: \xff\xfe"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(parse_message("a: \xc0\x80"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(parse_message("a: \xe2\x82"), HasSubstr("not valid UTF-8"));
  EXPECT_EQ(parse_message("a: \xe2\x82\xac"), "no error");
}

TEST(Yaml, ReadsAWideMappingWithoutSearchingItAnew) {
  std::ostringstream text;
  for (int i = 0; i < 100000; ++i) text << "key" << i << ": " << i << "\n";
  YamlMap map = map_of(text.str());
  std::int64_t sum = 0;
  for (const std::string& key : map.keys()) sum += map.require(key).as_integer();
  map.finish();
  EXPECT_EQ(sum, 4999950000);
}

TEST(Yaml, KeepsMessagesOnOneShortLine) {
  const std::string message = message_of(
      [] { map_of("a: \"" + std::string(5000, 'x') + "\\n\\n\"").require("a").as_number(); });
  EXPECT_LT(message.size(), 200u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(Yaml, NamesAnAbsentFileAFolderAndAHugeFile) {
  const auto folder = std::filesystem::temp_directory_path() / "berth_yaml_test";
  std::filesystem::create_directories(folder);
  EXPECT_THAT(message_of([&] { read_yaml_file(folder / "none.yaml"); }),
              EndsWith("none.yaml: cannot be opened: No such file or directory"));
  EXPECT_THAT(message_of([&] { read_yaml_file(folder); }), HasSubstr("is a folder"));
  const auto huge = folder / "huge.yaml";
  std::ofstream(huge) << "a: 1";
  std::filesystem::resize_file(huge, (4u << 20) + 1);
  EXPECT_THAT(message_of([&] { read_yaml_file(huge); }), HasSubstr("larger than 4 MiB"));
  std::filesystem::remove_all(folder);
}

TEST(Yaml, QuotesAnyTextOnOneLine) {
  EXPECT_EQ(yaml_quote("a \"b\" \\ 'c': {d} # \xc3\xa9"),
            "\"a \\\"b\\\" \\\\ 'c': {d} # \xc3\xa9\"");
  EXPECT_EQ(yaml_quote("\xff"), "\"\xef\xbf\xbd\"") << "no UTF-8";
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  for (const std::string& text :
       {all, std::string(), std::string("~"), std::string("a ") + std::string(500, ' ') + "b",
        std::string("\xc2\x80 \xc2\x85 \xe2\x80\xa8 \xef\xbb\xbf \xef\xbf\xbf \xf0\x9f\x8e\x89")}) {
    const std::string quoted = yaml_quote(text);
    EXPECT_EQ(quoted.find('\n'), std::string::npos);
    EXPECT_EQ(map_of("{a: " + quoted + ", b: 1}").require("a").as_text(), text);
  }
}

// Whatever the bytes are, reading gives a value that can be walked, or throws Error.
TEST(Yaml, SurvivesRandomBytes) {
  std::mt19937 random(20240607);
  const std::string alphabet = "[]{}:,-?&*!|>'\"%@`#~<=. \t\n\rab01\\\xc3\xa9\x04";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const std::size_t length = random() % 60;
    for (std::size_t i = 0; i < length; ++i)
      text += round % 4 ? alphabet[random() % alphabet.size()] : static_cast<char>(random());
    try {
      walk(parse_yaml(text, "f.yaml"));
    } catch (const Error& error) {
      ASSERT_THAT(error.what(), StartsWith("f.yaml")) << text;
    }
  }
}

TEST(Yaml, SurvivesEveryMutationOfAGoodFile) {
  const std::string good =
      "devices:\n  - {name: \"0\", kind: cuda, capacity: 24GiB}\n  - &c {name: cpu}\nlinks:\n"
      "  - {from: cpu, to: '0', x: *c}\ntext: |\n  a\n  b\n";
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text = good;
    for (std::size_t edits = 1 + random() % 3; edits > 0; --edits) {
      const std::size_t at = random() % text.size();
      if (random() % 2)
        text[at] = good[random() % good.size()];
      else
        text.erase(at, 1 + random() % 8);
      if (text.empty()) text.assign(1, ' ');
    }
    try {
      walk(parse_yaml(text, "f.yaml"));
    } catch (const Error& error) {
      ASSERT_THAT(error.what(), StartsWith("f.yaml")) << text;
    }
  }
}

}  // namespace
}  // namespace berth
