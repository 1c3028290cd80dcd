// SentencePiece vocabularies of GGUF files as tokenizers: they must give the ids of Hugging Face's
// tokenizers, whose goldens are those of tests/text.
#include <gtest/gtest.h>
#include <simdjson.h>

#include <filesystem>
#include <string>
#include <vector>

#include "planner/model/gguf/gguf.h"
#include "runtime/text/tokenizer.h"
#include "tests/model/gguf_writer.h"

namespace berth {
namespace {

using testing::GgufWriter;

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(BERTH_SOURCE_DIR) / "tests/text/data" / name;
}

// The vocabulary of tests/text/data/`name`.json, as llama.cpp's converter writes it.
class GgufTokenizer : public ::testing::Test {
 protected:
  explicit GgufTokenizer() {
    std::string name = (std::filesystem::temp_directory_path() / "berth-gguf-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~GgufTokenizer() override { std::filesystem::remove_all(folder_); }

  void read(const std::string& name) {
    file_ = parser_.load(data(name + ".json").string());
    for (const auto [token, id] : simdjson::dom::object(file_["model"]["vocab"])) {
      tokens_.emplace_back(token);
      const bool byte = token.starts_with("<0x");
      types_.push_back(token == "<unk>" ? 2 : byte ? 6 : token.starts_with('<') ? 3 : 1);
    }
    goldens_ = golden_parser_.load(data(name + ".goldens.json").string());
  }

  std::string json(const std::string& architecture, const std::vector<float>& scores,
                   bool space_prefix) {
    GgufWriter gguf;
    gguf.text("general.architecture", architecture);
    gguf.text("tokenizer.ggml.model", "llama");
    gguf.texts("tokenizer.ggml.tokens", tokens_);
    gguf.i32s("tokenizer.ggml.token_type", types_);
    gguf.f32s("tokenizer.ggml.scores", scores);
    gguf.u32("tokenizer.ggml.bos_token_id", 1);
    gguf.boolean("tokenizer.ggml.add_space_prefix", space_prefix);
    gguf.write(folder_ / "model.gguf");
    return gguf_tokenizer_json(folder_ / "model.gguf");
  }

  void expect_goldens(const std::string& json) {
    const auto tokenizer = Tokenizer::parse(json, "model.gguf");
    for (const simdjson::dom::element golden : goldens_["cases"].get_array()) {
      const std::string_view text = golden["text"];
      std::vector<std::int64_t> ids;
      for (const std::int64_t id : golden["prompt"].get_array()) ids.push_back(id);
      EXPECT_EQ(tokenizer->encode_prompt(text), ids) << text;
      EXPECT_EQ(tokenizer->decode(ids, false), std::string_view(golden["plain"])) << text;
    }
    simdjson::dom::parser parser;
    const std::string merges = simdjson::minify(parser.parse(json)["model"]["merges"]);
    EXPECT_EQ(merges, simdjson::minify(file_["model"]["merges"]));
  }

  std::filesystem::path folder_;
  simdjson::dom::parser parser_;
  simdjson::dom::parser golden_parser_;
  simdjson::dom::element file_;
  simdjson::dom::element goldens_;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
};

TEST_F(GgufTokenizer, OfScoresAgreesWithHuggingFace) {
  read("llama2");
  std::vector<float> scores;
  for (const double score : goldens_["scores"].get_array()) {
    scores.push_back(static_cast<float>(score));
  }
  expect_goldens(json("llama", scores, true));
}

TEST_F(GgufTokenizer, OfGemmaGoesByTheOrderOfTokens) {
  read("gemma");
  std::size_t runs = 0;
  for (std::size_t id = 0; id < tokens_.size();
       ++id) {  // stored as spaces, and marked as user-defined
    constexpr std::string_view kMark = "▁";
    const std::size_t marks = tokens_[id].size() / kMark.size();
    if (marks < 2 || tokens_[id].find_first_not_of(kMark) != std::string::npos) continue;
    tokens_[id].assign(marks, ' ');
    types_[id] = 4;
    ++runs;
  }
  EXPECT_EQ(runs, 3u);
  expect_goldens(json("gemma2", std::vector<float>(tokens_.size(), -1000), false));
}

}  // namespace
}  // namespace berth
