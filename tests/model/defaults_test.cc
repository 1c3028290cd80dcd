// Compares what a config.json means that leaves a key out, or says it elsewhere, with transformers:
// the tree, the KV cache and the facts. tests/exec compares what a run computes with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "berth/error.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/tree/config.h"
#include "tests/model/default_cases.h"

namespace berth {
namespace {

using test::default_cases;
using test::DefaultCase;
using test::FoldedLines;
using Lines = std::vector<std::string>;
using ::testing::AnyOf;
using ::testing::HasSubstr;

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

Lines described(const ModelTree& tree) {
  Lines lines;
  add_tensors(tree, tree.model_type == "gpt_oss", lines);
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

class Defaults : public testing::TestWithParam<std::string> {};

TEST_P(Defaults, AreThoseOfTransformersForEveryKeyLeftOut) {
  for (const DefaultCase& one : default_cases(GetParam())) {
    SCOPED_TRACE(one.name);
    const Lines& wanted = one.fails ? one.base : one.lines;
    try {
      const ModelConfig config = ModelConfig::parse(one.config, "config.json");
      const Lines found = described(build_model_tree("m", &config, nullptr, std::nullopt));
      // A config that transformers refuses is planned only if it refuses it for something that no
      // plan depends on.
      EXPECT_EQ(difference(of_kinds(found, wanted), of_kinds(wanted, wanted)), "");
    } catch (const Error& error) {
      EXPECT_TRUE(one.fails || one.has("run fails")) << error.what();
      if (one.keys.size() == 1) {
        EXPECT_THAT(std::string(error.what()),
                    AnyOf(HasSubstr(one.keys[0]), HasSubstr("rope_parameters.")));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Defaults, testing::ValuesIn(test::default_families()),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace berth
