// Compares what a config.json means that leaves a key out, or says it elsewhere, with transformers:
// the tree, the KV cache and the facts. tests/exec compares what a run computes with.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "berth/error.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/template/build.h"
#include "planner/model/template/complete.h"
#include "planner/model/tree/config.h"
#include "planner/plan/kv_cache.h"
#include "tests/instance_share.h"
#include "tests/model/default_cases.h"

namespace berth {
namespace {

using test::default_cases;
using test::DefaultCase;
using test::FoldedLines;
using Lines = std::vector<std::string>;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string shape_text(const Shape& shape) {
  std::string out = " [";
  for (const std::uint64_t size : shape) {
    out += (out.size() > 2 ? ", " : "") + std::to_string(size);
  }
  return out + "]";
}

void add_tensors(const ModelTree& tree, bool fused, Lines& lines) {
  FoldedLines folded;
  for (const ModelTensor& tensor : tree.tensors) {
    const std::string name(tensor.name);
    if (!fused && name.find(".experts.") != name.npos) continue;
    const std::string shape = shape_text(tensor.shape);
    std::size_t digit = name.find_first_of("0123456789");
    while (digit != name.npos && name[digit - 1] != '.') {
      digit = name.find_first_of("0123456789", digit + 1);
    }
    if (digit == name.npos) {
      lines.push_back(std::string("tensor ").append(name).append(shape));
    } else {
      const std::size_t end = name.find('.', digit);
      folded.add("tensor " + name.substr(0, digit), std::stoul(name.substr(digit)),
                 name.substr(end) + shape);
    }
  }
  const Lines more = folded.take();
  lines.insert(lines.end(), more.begin(), more.end());
}

// FNV-1a, as make_default_goldens.py has it.
std::string hashed(const Lines& lines) {
  std::uint64_t value = 0xCBF29CE484222325;
  for (const std::string& line : lines) {
    for (const char c : line + "\n")
      value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  }
  return fmt::format("{:016x}", value);
}

// Whether a mixture's experts are stored together, and not one by one.
bool fuses_experts(const ModelTree& tree) {
  return std::ranges::none_of(tree.tensors, [](const ModelTensor& tensor) {
    return std::string_view(tensor.name).find(".experts.0.") != std::string_view::npos;
  });
}

void add_kept(const ModelTree& tree, Lines& lines) {
  Workload workload;
  workload.context = 18;
  workload.batch = 2;
  workload.kv_dtype = DType::kBF16;
  FoldedLines kept, windows;
  for (std::size_t i = 0; i < tree.facts.layers.size(); ++i) {
    LayerFacts layer = tree.facts.layers[i];
    layer.cross_elements = 0;  // of a picture, and transformers ran on tokens alone
    kept.add("keeps ", i, " " + std::to_string(kv_cache_bytes(layer, workload)));
    windows.add("window ", i, " " + std::to_string(layer.shares_cache ? 0 : layer.window));
  }
  for (const FoldedLines* folded : {&kept, &windows}) {
    const Lines more = folded->take();
    lines.insert(lines.end(), more.begin(), more.end());
  }
}

Lines described(const ModelTree& tree) {
  Lines lines;
  add_tensors(tree, fuses_experts(tree), lines);
  std::ranges::sort(lines);
  lines.push_back("tensors " + hashed(lines));
  add_kept(tree, lines);
  lines.push_back("parameters " + std::to_string(tree.parameters()));
  lines.push_back("positions " + std::to_string(tree.facts.max_positions));
  FoldedLines folded;
  for (std::size_t i = 0; i < tree.facts.layers.size(); ++i) {
    const LayerFacts& layer = tree.facts.layers[i];
    folded.add("cache ", i,
               " " + std::to_string(layer.kv_elements) + " of " + std::to_string(layer.window));
    const std::string chosen = "experts of a token " + std::to_string(layer.experts_per_token);
    if (layer.experts > 0 && std::ranges::find(lines, chosen) == lines.end()) {
      lines.push_back(chosen);
    }
  }
  const Lines more = folded.take();
  lines.insert(lines.end(), more.begin(), more.end());
  std::ranges::sort(lines);
  return lines;
}

// Only lines of a kind that transformers has one of for this case.
Lines of_kinds(const Lines& lines, const Lines& known) {
  Lines out;
  for (const std::string& line : lines) {
    const std::string kind = line.substr(0, line.find(' '));
    if (kind != "run" && std::ranges::any_of(known, [&](const std::string& other) {
          return other.starts_with(kind + " ");
        })) {
      out.push_back(line);
    }
  }
  return out;
}

// Those of `telling` that Berth has not, if the tensors differ.
std::string told(const Lines& found, const Lines& wanted, const Lines& telling) {
  std::string out;
  for (const std::string& line : wanted) {
    if (!line.starts_with("tensors ") || std::ranges::find(found, line) != found.end()) continue;
    for (const std::string& one : telling) {
      if (std::ranges::find(found, one) == found.end()) out += "transformers: " + one + "\n";
    }
    for (const std::string& one : found) {
      if (one.starts_with("tensor ")) out += "Berth: " + one + "\n";
    }
  }
  return out;
}

std::string difference(const Lines& found, const Lines& wanted) {
  std::string out;
  for (const std::string& line : found) {
    if (std::ranges::find(wanted, line) == wanted.end()) out += "Berth: " + line + "\n";
  }
  for (const std::string& line : wanted) {
    if (std::ranges::find(found, line) == found.end()) out += "transformers: " + line + "\n";
  }
  return out;
}

std::uint64_t parameters(const Lines& lines) {
  const auto found = std::ranges::find_if(
      lines, [](const std::string& line) { return line.starts_with("parameters "); });
  return found == lines.end() ? 0 : std::stoull(found->substr(found->find(' ')));
}

std::vector<std::string> notes_of(const std::string& text) {
  const ModelConfig config = ModelConfig::parse(text, "config.json");
  return build_model_tree("m", &config, nullptr, std::nullopt).notes;
}

// Whether the error is about sizes that do not go together. Of some such configs transformers
// builds a model all the same.
bool of_odd_sizes(const Error& error) {
  const std::string message = error.what();
  return message.find(" does not divide ") != message.npos ||
         message.find(" is 0, not a positive size ") != message.npos;
}

// Plans the cases of a family as build_skeleton() does, but reads its template once for all.
class Plans {
 public:
  explicit Plans(const DefaultCase& base) {
    const ModelConfig config = ModelConfig::parse(base.config, "config.json");
    const auto* classes = config.find_list("architectures");
    template_ = find_architecture(config.model_type(),
                                  classes ? std::get<std::string>(classes->front()) : "",
                                  config.text("text_config.model_type").value_or(""));
  }

  ModelTree tree(const std::string& text) const {
    ModelConfig config = ModelConfig::parse(text, "config.json");
    config = complete_config(std::move(config), *template_);
    return build_from_template(*template_, config, std::nullopt).tree;
  }

 private:
  std::unique_ptr<Architecture> template_;
};

class Defaults : public testing::TestWithParam<std::string> {};

TEST_P(Defaults, AreThoseOfTransformersForEveryKeyLeftOut) {
  const std::vector<DefaultCase> cases = default_cases(GetParam());
  const Plans plans(cases.front());
  unsigned turn = 0;
  for (const DefaultCase& one : cases) {
    if (!is_its_turn(turn)) continue;
    SCOPED_TRACE(one.name);
    const Lines& wanted = one.fails ? one.base : one.lines;
    try {
      const Lines found = described(plans.tree(one.config));
      // A config that transformers refuses is planned only if it refuses it for something that no
      // plan depends on.
      EXPECT_EQ(difference(of_kinds(found, wanted), of_kinds(wanted, wanted)), "")
          << told(found, wanted, one.telling);
    } catch (const Error& error) {
      if (of_odd_sizes(error)) continue;
      EXPECT_TRUE(one.fails || one.has("run fails")) << error.what();
      if (one.keys.size() == 1) {
        EXPECT_THAT(std::string(error.what()),
                    AnyOf(HasSubstr(one.keys[0].substr(one.keys[0].rfind('.') + 1)),
                          HasSubstr("rope_parameters.")));
      }
    }
  }
}

// The bases are small and the defaults large, so a size that is left out shows.
TEST_P(Defaults, AreNamedInANoteWhereASizeIsLeftOut) {
  const std::string note =
      "config.json: sizes that it leaves out are transformers' defaults for a ";
  const std::vector<DefaultCase> cases = default_cases(GetParam());
  EXPECT_THAT(notes_of(cases.front().config), Not(Contains(StartsWith(note))));
  unsigned turn = 0;
  for (const DefaultCase& one : cases) {
    const bool left_out = one.keys.size() == 1 && one.name.find("\t-") != one.name.npos;
    if (one.keys.size() == 1 && one.keys[0].ends_with("max_position_embeddings")) continue;
    if (!left_out || one.fails || one.has("run fails")) continue;
    if (parameters(one.lines) < 2 * parameters(one.base) || !is_its_turn(turn)) continue;
    // A list or an object, whose default is no size.
    if (one.keys[0].ends_with("indexes") || one.keys[0].ends_with("_config")) continue;
    std::string key = one.keys[0];
    if (key.starts_with("text_config.")) key.erase(0, key.find('.') + 1);
    // Of two names of a key, the note may have the other.
    const auto name = AnyOf(HasSubstr(" " + key + " "),
                            HasSubstr(key.ends_with("_experts") ? "_experts " : " " + key + " "));
    try {
      EXPECT_THAT(notes_of(one.config), Contains(AllOf(StartsWith(note), name))) << one.name;
    } catch (const Error& error) {
      EXPECT_TRUE(of_odd_sizes(error)) << one.name << ": " << error.what();
    }
  }
}

TEST(DefaultSizes, StandInOneNote) {
  const std::string start =
      "config.json: sizes that it leaves out are transformers' defaults for a ";
  EXPECT_THAT(notes_of(R"({"model_type":"llama","hidden_size":64,"intermediate_size":112,
                           "num_attention_heads":4})"),
              Contains(start + "llama model: num_hidden_layers 32, vocab_size 32000"));
  EXPECT_THAT(
      notes_of(R"({"model_type":"llava","vision_config":{"num_hidden_layers":2,"hidden_size":40},
                   "text_config":{"hidden_size":64,"intermediate_size":112,"num_hidden_layers":3,
                                  "num_attention_heads":4}})"),
      Contains(start + "llava model: vision_config.image_size 224, " +
               "vision_config.intermediate_size 3072, vision_config.patch_size 32, " +
               "vocab_size 32000"));
}

TEST(DefaultSizes, FollowFromOtherKeysWithoutANote) {
  EXPECT_THAT(notes_of(R"({"model_type":"llama","hidden_size":64,"intermediate_size":112,
                           "num_attention_heads":4,"num_hidden_layers":2,"vocab_size":160})"),
              Not(Contains(HasSubstr("leaves out"))));
}

INSTANTIATE_TEST_SUITE_P(All, Defaults, testing::ValuesIn(test::default_families()),
                         [](const auto& family) {
                           std::string name = family.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace berth
