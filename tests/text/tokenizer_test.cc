// Ids and texts against those of Hugging Face tokenizers, and errors for files that are broken.

#include "runtime/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdlib>
#include <fstream>

#include "berth/error.h"
#include "planner/base/utf8.h"
#include "runtime/text/bpe.h"
#include "runtime/text/tokenizer_config.h"
#include "tests/data_names.h"
#include "tests/error_of.h"

namespace berth {
namespace {

using ::testing::HasSubstr;

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(BERTH_SOURCE_DIR) / "tests/text/data" / name;
}

struct Golden {
  std::string text;
  std::vector<std::int64_t> ids;
  std::string decoded;  // with special tokens
  std::optional<std::string> plain;
  std::optional<std::vector<std::int64_t>> prompt;  // with what the post-processor adds
};

std::vector<std::int64_t> ids_of(const simdjson::dom::element& list) {
  std::vector<std::int64_t> ids;
  for (const std::int64_t id : list.get_array()) ids.push_back(id);
  return ids;
}

// `list`: "cases", or "decodes" of ids that no text gives.
std::vector<Golden> read_goldens(const std::string& name, std::uint64_t* vocabulary = nullptr,
                                 const std::string& list = "cases") {
  simdjson::dom::parser parser;
  const simdjson::dom::element file = parser.load(data(name).string());
  std::uint64_t size = 0;
  if (vocabulary != nullptr && file["vocabulary"].get(size) == simdjson::SUCCESS) {
    *vocabulary = size;
  }
  std::vector<Golden> goldens;
  for (const simdjson::dom::element value : file[list].get_array()) {
    Golden golden;
    if (list == "cases") golden.text = std::string(std::string_view(value["text"]));
    golden.decoded = std::string(std::string_view(value["decoded"]));
    golden.ids = ids_of(value["ids"]);
    if (simdjson::dom::element ids; value["prompt"].get(ids) == simdjson::SUCCESS) {
      golden.prompt = ids_of(ids);
    }
    std::string_view plain;
    if (value["plain"].get(plain) == simdjson::SUCCESS) golden.plain = std::string(plain);
    goldens.push_back(golden);
  }
  return goldens;
}

void expect_decoded(const Tokenizer& tokenizer, const Golden& golden) {
  EXPECT_EQ(lossy_utf8(tokenizer.decode(golden.ids, true)), golden.decoded);
  if (golden.plain) {
    EXPECT_EQ(lossy_utf8(tokenizer.decode(golden.ids, false)), *golden.plain);
  }
}

void expect_goldens(const Tokenizer& tokenizer, const std::vector<Golden>& goldens) {
  for (const Golden& golden : goldens) {
    SCOPED_TRACE(golden.text);
    EXPECT_EQ(tokenizer.encode(golden.text), golden.ids);
    EXPECT_EQ(tokenizer.encode_prompt(golden.text), golden.prompt.value_or(golden.ids));
    expect_decoded(tokenizer, golden);
  }
}

// What is given out as ids come one by one is never taken back, and is all of it in the end.
void expect_stream(const Tokenizer& tokenizer, const std::vector<std::int64_t>& ids) {
  const std::string whole = tokenizer.decode(ids, false);
  const std::unique_ptr<GrowingText> growing = tokenizer.grow(false);
  std::string text;
  for (const std::int64_t id : ids) {
    text += growing->push(id);
    EXPECT_EQ(whole.substr(0, text.size()), text);
  }
  EXPECT_EQ(text + growing->finish(), whole);
}

// The tokenizers in the data folder whose goldens have this list.
std::vector<std::string> with_goldens(const std::string& list) {
  std::vector<std::string> found;
  for (const std::string& name : testing::data_names("tests/text/data", ".goldens.json")) {
    simdjson::dom::parser parser;
    const simdjson::dom::element file = parser.load(data(name + ".goldens.json").string());
    const bool listed = file[list].error() == simdjson::SUCCESS;
    if (listed && std::filesystem::exists(data(name + ".json"))) found.push_back(name);
  }
  return found;
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) { return info.param; }

class Goldens : public ::testing::TestWithParam<std::string> {};

TEST_P(Goldens, AgreeWithHuggingFace) {
  const std::string& name = GetParam();
  const auto tokenizer = Tokenizer::read(data(name + ".json"));
  std::uint64_t vocabulary = 0;
  const auto goldens = read_goldens(name + ".goldens.json", &vocabulary);
  ASSERT_GT(goldens.size(), 30u);
  EXPECT_EQ(tokenizer->vocabulary(), vocabulary);
  expect_goldens(*tokenizer, goldens);
}

INSTANTIATE_TEST_SUITE_P(All, Goldens, ::testing::ValuesIn(with_goldens("cases")), test_name);

class Decodes : public ::testing::TestWithParam<std::string> {};

TEST_P(Decodes, AgreeWithHuggingFaceOnAnyIds) {
  const std::string& name = GetParam();
  const auto tokenizer = Tokenizer::read(data(name + ".json"));
  const auto goldens = read_goldens(name + ".goldens.json", nullptr, "decodes");
  ASSERT_GT(goldens.size(), 10u);
  for (const Golden& golden : goldens) {
    SCOPED_TRACE(golden.decoded);
    expect_decoded(*tokenizer, golden);
    expect_stream(*tokenizer, golden.ids);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Decodes, ::testing::ValuesIn(with_goldens("decodes")), test_name);

TEST(DemoTokenizer, AgreesWithHuggingFace) {
  std::filesystem::path folder =
      std::filesystem::path(BERTH_SOURCE_DIR) / "models/SmolLM2-135M-Instruct";
  if (const char* other = std::getenv("BERTH_DEMO_MODEL")) folder = other;
  if (!std::filesystem::exists(folder / "tokenizer.json")) {
    GTEST_SKIP() << folder << " holds no demo model (scripts/demo fetches it, or set "
                 << "BERTH_DEMO_MODEL to its folder)";
  }
  const auto goldens = read_goldens("smollm2_demo.goldens.json");
  ASSERT_GT(goldens.size(), 50u);
  expect_goldens(*Tokenizer::read(folder / "tokenizer.json"), goldens);
}

// A tokenizer.json with parts replaced, as a file that goes away.
class BrokenFile : public ::testing::Test {
 protected:
  BrokenFile() {
    std::string name = (std::filesystem::temp_directory_path() / "berth-text-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~BrokenFile() override { std::filesystem::remove_all(folder_); }

  std::string error_of(const std::string& json) const {
    const auto file = folder_ / "tokenizer.json";
    std::ofstream(file) << json;
    try {
      Tokenizer::read(file);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  static std::string with(const std::string& model, const std::string& rest = "") {
    return R"({"model":{"type":"BPE",)" + model + "}" + rest + "}";
  }

  std::filesystem::path folder_;
};

constexpr const char* kVocabulary = R"("vocab":{"a":0,"b":1,"ab":2},"merges":["a b"])";

TEST_F(BrokenFile, IsAnErrorThatNamesFileAndField) {
  EXPECT_THAT(error_of("{"), HasSubstr("tokenizer.json: not valid JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("'model' is missing"));
  EXPECT_THAT(error_of(R"({"model":{"type":"Unigram"}})"),
              HasSubstr("model.type: 'Unigram' is not supported"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":-1},"merges":[])")),
              HasSubstr("model.vocab['a']: must be a whole number"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":4294967296},"merges":[])")), HasSubstr("no token id"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":1,"b":1},"merges":[])")),
              HasSubstr("model.vocab['b']: id 1 is taken by 'a'"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":0})")), HasSubstr("'merges' is missing"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":0,"b":1},"merges":["a b"])")),
              HasSubstr("model.merges[0]: 'a', 'b' and the two joined must all be in model.vocab"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":0},"merges":["a"])")),
              HasSubstr("model.merges[0]: 'a' is not two tokens"));
  EXPECT_THAT(error_of(with(R"("vocab":{"a":0},"merges":[["a"]])")), HasSubstr("two tokens"));
  EXPECT_EQ(error_of(with(kVocabulary)), "no error");
}

TEST_F(BrokenFile, IsAnErrorWhereItAsksForWhatIsNotSupported) {
  const auto with_rest = [&](const std::string& rest) { return error_of(with(kVocabulary, rest)); };
  EXPECT_THAT(with_rest(R"(,"normalizer":{"type":"Other"})"),
              HasSubstr("normalizer: type 'Other'"));
  EXPECT_THAT(with_rest(R"(,"pre_tokenizer":{"type":"Other"})"),
              HasSubstr("pre_tokenizer: type 'Other' is not supported"));
  EXPECT_THAT(with_rest(R"(,"post_processor":{"type":"Other"})"),
              HasSubstr("post_processor: type 'Other' is not supported"));
  EXPECT_THAT(with_rest(R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"X"}]})"),
              HasSubstr("pre_tokenizer.pretokenizers[0]: type 'X'"));
  EXPECT_THAT(
      with_rest(
          R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Removed"})"),
      HasSubstr("pre_tokenizer.pattern.Regex: regular expression '(' is not understood"));
  EXPECT_THAT(
      with_rest(R"(,"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Some"})"),
      HasSubstr("pre_tokenizer.behavior: 'Some' is not a behavior"));
  EXPECT_THAT(with_rest(R"(,"decoder":{"type":"Other"})"), HasSubstr("decoder: type 'Other'"));
  EXPECT_THAT(with_rest(R"(,"added_tokens":[{"id":1,"content":"<x>"}])"),
              HasSubstr("added_tokens[0]: '<x>' has id 1, against model.vocab"));
  EXPECT_THAT(with_rest(R"(,"added_tokens":[{"id":7,"content":"<x>"},{"id":7,"content":"<y>"}])"),
              HasSubstr("added_tokens[1]: id 7 is given to two added tokens"));
  EXPECT_THAT(error_of(with(std::string(kVocabulary) + R"(,"end_of_word_suffix":"</w>")")),
              HasSubstr("model.end_of_word_suffix: is not supported"));
  EXPECT_THAT(error_of(with(std::string(kVocabulary) + R"(,"unk_token":"?")")),
              HasSubstr("model.unk_token: is not in model.vocab"));
}

TEST_F(BrokenFile, IsAnErrorWhereAStepOfSentencePieceIsOdd) {
  const auto step = [&](const std::string& place, const std::string& options) {
    return error_of(with(kVocabulary, ",\"" + place + "\":{\"type\":" + options + "}"));
  };
  EXPECT_THAT(step("normalizer", R"("Replace","pattern":{"String":""},"content":"b")"),
              HasSubstr("normalizer.pattern.String: must not be empty"));
  EXPECT_THAT(step("normalizer", R"("Strip","strip_left":true)"),
              HasSubstr("normalizer: 'strip_right' is missing"));
  EXPECT_THAT(step("pre_tokenizer", R"("Metaspace","replacement":"__")"),
              HasSubstr("pre_tokenizer.replacement: must be one character"));
  EXPECT_THAT(step("pre_tokenizer", R"("Metaspace","replacement":"_","prepend_scheme":"last")"),
              HasSubstr("pre_tokenizer.prepend_scheme: 'last' is not a scheme"));
  EXPECT_THAT(step("pre_tokenizer", R"("Metaspace","replacement":"_","prepend_scheme":"first",)"
                                    R"("add_prefix_space":false)"),
              HasSubstr("prepend_scheme: is not 'never', though add_prefix_space is false"));
  EXPECT_THAT(step("decoder", R"("Sequence","decoders":[{"type":"Other"}])"),
              HasSubstr("decoder.decoders[0]: type 'Other' is not supported"));
  EXPECT_THAT(step("decoder", R"("Strip","content":"","start":1,"stop":0)"),
              HasSubstr("decoder.content: must be one character"));
  EXPECT_THAT(step("post_processor", R"("TemplateProcessing","single":[],"special_tokens":{})"),
              HasSubstr("post_processor.single: does not hold the text A"));
  EXPECT_THAT(step("post_processor", R"("TemplateProcessing","special_tokens":{},)"
                                     R"("single":[{"SpecialToken":{"id":"<s>","type_id":0}}])"),
              HasSubstr("single[0].SpecialToken.id: '<s>' is not among the special_tokens"));
  EXPECT_THAT(step("post_processor", R"("BertProcessing","cls":["a"],"sep":["b",1])"),
              HasSubstr("post_processor.cls: must be a token and its id"));
  const std::string bert = R"({"type":"BertProcessing","cls":["a",0],"sep":["b",1]})";
  EXPECT_THAT(step("post_processor", R"("Sequence","processors":[)" + bert + "," + bert + "]"),
              HasSubstr("processors[1]: is not supported after a step that adds tokens"));
}

TEST_F(BrokenFile, IsAnErrorWhereItIsNotThere) {
  EXPECT_THROW(Tokenizer::read(folder_ / "tokenizer.json"), Error);
}

class TokenizerConfig : public BrokenFile {
 protected:
  TokenizerSteps steps(const std::string& config, const std::string& model_type = "llama") const {
    std::ofstream(folder_ / "tokenizer_config.json") << config;
    return read_tokenizer_steps(folder_ / "tokenizer_config.json", model_type);
  }
};

// Ids and texts are those of AutoTokenizer in transformers 5.24.0.
TEST_F(TokenizerConfig, PutsNoSpaceBeforeATextWhereAddPrefixSpaceIsFalse) {
  const auto asked = steps(
      R"({"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": false,
          "model_max_length": 1000000000000000019884624838656})");
  const auto tokenizer = Tokenizer::read(data("llama2.json"), asked);
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> known{
      {"Hello world", {1, 75, 286, 349, 295, 328, 351, 292, 285}},
      {" x", {1, 359}},
      {"  two\n", {1, 314, 320, 302, 295, 259}},
      {"a</s> b", {1, 282, 2, 334}}};
  for (const auto& [text, ids] : known) EXPECT_EQ(tokenizer->encode_prompt(text), ids) << text;
  EXPECT_EQ(tokenizer->decode(known[0].second, false), "Hello world");
  EXPECT_EQ(tokenizer->decode(known[1].second, false), " x");
  const auto byte_level = Tokenizer::read(data("gpt2.json"), asked);
  EXPECT_EQ(byte_level->encode("Hi there"), Tokenizer::read(data("gpt2.json"))->encode("Hi there"));
}

TEST_F(TokenizerConfig, LeavesTheFileAsItIsWhereTransformersDoes) {
  const std::string wanted = R"({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": )";
  EXPECT_EQ(steps(wanted + "false}"), TokenizerSteps::kLlamaWithoutPrefix);
  EXPECT_EQ(steps(wanted + "false}", "mistral"), TokenizerSteps::kOfFile);
  EXPECT_EQ(steps(wanted + "true}"), TokenizerSteps::kOfFile);
  EXPECT_EQ(steps(wanted + "null}"), TokenizerSteps::kOfFile);
  EXPECT_EQ(steps(R"({"add_prefix_space": false})"), TokenizerSteps::kOfFile);
  EXPECT_EQ(steps(R"({"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": false})"),
            TokenizerSteps::kOfFile);
  EXPECT_THAT(testing::error_of([&] {
                steps(R"({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": true})");
              }),
              HasSubstr("tokenizer_config.json: add_prefix_space: true is not supported with "
                        "'GPT2Tokenizer'"));
}

// A long text may be a single word. No step may take quadratic time for it, or recurse deeply.
TEST(Encoding, TakesALongTextWithoutWords) {
  const auto tokenizer = Tokenizer::read(data("llama2.json"));
  std::string text;
  while (text.size() < 1'000'000) text += "the other byte 你 \xF0\x9F\x91\x8D ";
  const auto ids = tokenizer->encode(text);
  EXPECT_EQ(tokenizer->decode(ids, true), text);
  // Decoding all of it again for each id would take days.
  const std::unique_ptr<GrowingText> growing = tokenizer->grow(true);
  std::string grown;
  for (const std::int64_t id : ids) grown += growing->push(id);
  EXPECT_EQ(grown, text);
}

TEST(Encoding, RefusesATextThatReplacingBlowsUp) {
  const std::string content(1 << 16, 'x');
  const auto tokenizer =
      Tokenizer::parse(R"({"model":{"vocab":{"a":0},"merges":[]},"normalizer":{"type":"Replace",)"
                       R"("pattern":{"String":"a"},"content":")" +
                           content + "\"}}",
                       "tokenizer.json");
  EXPECT_THROW(tokenizer->encode(std::string(1 << 15, 'a')), Error);
}

TEST(Encoding, RefusesAnAddedTokenThatTheReferenceFailsOn) {
  const auto tokenizer = Tokenizer::parse(
      R"({"model":{"vocab":{"a":0},"merges":[]},"added_tokens":[)"
      R"({"id":1,"content":"x","rstrip":true},{"id":2,"content":"  ","lstrip":true}]})",
      "tokenizer.json");
  EXPECT_EQ(tokenizer->encode("x  a"), (std::vector<std::int64_t>{1, 0}));
  EXPECT_THROW(tokenizer->encode("x   a"), Error);
}

TEST(Encoding, RefusesIllFormedTextNamingTheByte) {
  const auto tokenizer = Tokenizer::read(data("gpt2.json"));
  try {
    tokenizer->encode("ab\xFF");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("not UTF-8: ill-formed at byte 2"));
  }
}

TEST(Decoding, PassesOverIdsWithoutAToken) {
  const auto tokenizer = Tokenizer::read(data("gpt2.json"));
  auto ids = tokenizer->encode("The byte");
  ids.insert(ids.begin() + 1, {100000, -1, std::int64_t{1} << 40});
  EXPECT_EQ(tokenizer->decode(ids, true), "The byte");
}

// A tokenizer whose tokens are single letters and " ", with the given decoder.
std::unique_ptr<Tokenizer> letters(const std::string& decoder) {
  return Tokenizer::parse(
      R"({"model":{"vocab":{"a":0,"b":1," ":2,"x":3,"<0x41>":4},"merges":[]},"decoder":)" +
          decoder + "}",
      "tokenizer.json");
}

// The pieces in which the text of `ids` comes.
std::vector<std::string> pieces_of(const Tokenizer& tokenizer,
                                   const std::vector<std::int64_t>& ids) {
  const std::unique_ptr<GrowingText> growing = tokenizer.grow(true);
  std::vector<std::string> pieces;
  for (const std::int64_t id : ids) pieces.push_back(growing->push(id));
  pieces.push_back(growing->finish());
  return pieces;
}

TEST(Decoding, GivesOutWhatLaterIdsCannotChange) {
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces_of(*letters("null"), {0, 1, 0}), (Pieces{"a", " b", " a", ""}));
  const auto strip = [](const std::string& start, const std::string& stop) {
    return letters(
        R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ",)"
        R"("start":)" +
        start + R"(,"stop":)" + stop + "}]}");
  };
  EXPECT_EQ(pieces_of(*strip("1", "0"), {2, 2, 0, 2}), (Pieces{"", " ", "a", " ", ""}));
  EXPECT_EQ(pieces_of(*strip("2", "0"), {0, 2}), (Pieces{"a", " ", ""}));
  EXPECT_EQ(pieces_of(*strip("0", "1"), {0, 2, 2}), (Pieces{"", "a", " ", ""}));
  EXPECT_EQ(pieces_of(*strip("0", "1"), {0, 2, 0}), (Pieces{"", "a", " ", "a"}));
  // What follows may still belong to a match.
  const auto replace = letters(R"({"type":"Sequence","decoders":[{"type":"Fuse"},)"
                               R"({"type":"Replace","pattern":{"String":"ab"},"content":"y"}]})");
  EXPECT_EQ(pieces_of(*replace, {0, 1, 0}), (Pieces{"", "", "", "ya"}));
  EXPECT_EQ(pieces_of(*letters(R"({"type":"ByteFallback"})"), {4, 4, 0, 4}),
            (Pieces{"", "", "AAa", "", "A"}));
}

// The textbook algorithm: merge the leftmost pair of the lowest rank, again and again.
std::vector<std::int64_t> slow_encode(
    const Bpe& bpe, const std::vector<std::pair<std::string, std::string>>& merges,
    const std::string& word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  for (bool merged = true; merged;) {
    merged = false;
    for (const auto& [left, right] : merges) {
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        if (symbols[i] != left || symbols[i + 1] != right) continue;
        symbols[i] += symbols[i + 1];
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        merged = true;
        break;
      }
      if (merged) break;
    }
  }
  std::vector<std::int64_t> ids;
  for (const auto& symbol : symbols) ids.push_back(*bpe.id_of(symbol));
  return ids;
}

TEST(BytePairs, MergeLikeTheTextbookAlgorithmOnEveryShortWord) {
  const std::vector<std::pair<std::string, std::string>> merges{
      {"b", "a"}, {"a", "a"}, {"aa", "b"}, {"a", "ba"}, {"aa", "aa"}, {"ba", "ba"}, {"aab", "c"}};
  Bpe bpe;
  std::uint32_t id = 0;
  for (const char* token : {"a", "b", "c", "ba", "aa", "aab", "aba", "aaaa", "baba", "aabc"}) {
    bpe.add_token(token, id++);
  }
  for (const auto& [left, right] : merges) ASSERT_TRUE(bpe.add_merge(left, right));
  for (int length = 1, words = 3; length <= 8; ++length, words *= 3) {
    for (int number = 0; number < words; ++number) {
      std::string word;
      for (int i = 0, rest = number; i < length; ++i, rest /= 3) {
        word.push_back(static_cast<char>('a' + rest % 3));
      }
      std::vector<std::int64_t> ids;
      bpe.encode(word, ids);
      ASSERT_EQ(ids, slow_encode(bpe, merges, word)) << word;
    }
  }
}

TEST(BytePairs, FallBackToBytesOrTheUnknownToken) {
  Bpe bpe;
  bpe.add_token("a", 0);
  bpe.add_token("?", 1);
  std::vector<std::int64_t> ids;
  bpe.encode("aéé", ids);
  EXPECT_EQ(ids, (std::vector<std::int64_t>{0}));
  bpe.options.unknown = 1;
  bpe.encode("éé", ids);
  EXPECT_EQ(ids, (std::vector<std::int64_t>{0, 1, 1}));
  bpe.options.fuse_unknown = true;
  bpe.encode("ééa", ids);
  EXPECT_EQ(ids, (std::vector<std::int64_t>{0, 1, 1, 1, 0}));
  bpe.add_token("<0xC3>", 2);
  bpe.add_token("<0xA9>", 3);
  bpe.options.byte_fallback = true;
  bpe.encode("é", ids);
  EXPECT_EQ(ids, (std::vector<std::int64_t>{0, 1, 1, 1, 0, 2, 3}));
}

TEST(Utf8, HoldsBackUnfinishedCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xF0\x9F"), "a");
  EXPECT_EQ(stream.push("\x91"), "");
  EXPECT_EQ(stream.push("\x8D!"), "\xF0\x9F\x91\x8D!");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push("\xE2\x82"), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

TEST(Utf8, ReplacesEachMaximalSubpart) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(lossy_utf8("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a" + bad + bad + bad + "b" + bad + "c" + bad + bad + "d");  // Unicode, table 3-11
  EXPECT_EQ(lossy_utf8("\xC0\xAF"), bad + bad);                          // overlong
  EXPECT_EQ(lossy_utf8("\xED\xA0\x80"), bad + bad + bad);                // a surrogate
  EXPECT_EQ(find_ill_formed_utf8("ab\xC3\xA9"), std::nullopt);
  EXPECT_EQ(find_ill_formed_utf8("ab\xC3"), 2u);
}

}  // namespace
}  // namespace berth
