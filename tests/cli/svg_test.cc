// The picture is read back as a small XML document: well formed, inside its frame, words that do
// not run into each other, columns to scale.
#include "cli/report/svg.h"

#include <gmock/gmock.h>

#include <map>

#include "cli/report/svg_canvas.h"
#include "tests/cli/made_plan.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string words;  // between its tags

  double number(const std::string& key) const { return std::stod(attributes.at(key)); }
};

// A strict reader of what this picture is made of; fails the test where it is not well formed.
std::vector<Element> read_xml(const std::string& xml) {
  std::vector<Element> all;
  std::vector<std::size_t> open;
  std::size_t at = xml.find("?>") + 2;
  const auto check_text = [](const std::string& text) {
    EXPECT_EQ(text.find('<'), std::string::npos) << text;
    for (std::size_t i = text.find('&'); i != std::string::npos; i = text.find('&', i + 1)) {
      const std::string entity = text.substr(i, text.find(';', i) - i + 1);
      EXPECT_THAT((std::vector<std::string>{"&amp;", "&lt;", "&gt;", "&quot;"}),
                  ::testing::Contains(entity));
    }
  };
  while (true) {
    const std::size_t tag = xml.find('<', at);
    if (tag == std::string::npos) break;
    const std::string text = xml.substr(at, tag - at);
    check_text(text);
    if (!open.empty()) all[open.back()].words += text;
    const std::size_t end = xml.find('>', tag);
    std::string inside = xml.substr(tag + 1, end - tag - 1);
    at = end + 1;
    if (inside[0] == '/') {
      EXPECT_FALSE(open.empty());
      if (open.empty()) return all;
      EXPECT_EQ(all[open.back()].name, inside.substr(1));
      open.pop_back();
      continue;
    }
    const bool closed = inside.back() == '/';
    if (closed) inside.pop_back();
    Element element;
    const std::size_t space = inside.find(' ');
    element.name = inside.substr(0, space);
    for (std::size_t i = space; i != std::string::npos && i + 1 < inside.size();) {
      const std::size_t equals = inside.find("=\"", i);
      const std::size_t quote = equals == std::string::npos ? equals : inside.find('"', equals + 2);
      EXPECT_NE(quote, std::string::npos) << inside;
      if (quote == std::string::npos) return all;
      const std::string key = inside.substr(i + 1, equals - i - 1);
      EXPECT_EQ(element.attributes.count(key), 0u) << key << " twice in " << inside;
      element.attributes[key] = inside.substr(equals + 2, quote - equals - 2);
      i = quote + 1;
    }
    all.push_back(element);
    if (!closed) open.push_back(all.size() - 1);
  }
  EXPECT_TRUE(open.empty());
  return all;
}

struct Span {
  double left, right, top, bottom;
  std::string words;
};

std::vector<Span> words_of(const std::vector<Element>& elements) {
  std::vector<Span> spans;
  for (const Element& element : elements) {
    if (element.name != "text") continue;
    const double size = element.number("font-size");
    const double width =
        text_width(element.words, size, element.attributes.count("font-weight") > 0);
    const std::string& anchor = element.attributes.at("text-anchor");
    const double x = element.number("x") - (anchor == "middle" ? width / 2
                                            : anchor == "end"  ? width
                                                               : 0);
    const double y = element.number("y");
    spans.push_back({x, x + width, y - 0.75 * size, y + 0.1 * size, element.words});
  }
  return spans;
}

void expect_sound(const std::string& svg) {
  const std::vector<Element> elements = read_xml(svg);
  ASSERT_FALSE(elements.empty());
  const double width = elements[0].number("width");
  const double height = elements[0].number("height");
  for (const Element& element : elements) {
    EXPECT_NE(element.name, "script");
    if (element.name != "rect") continue;
    EXPECT_GE(element.number("x"), -0.1);
    EXPECT_GE(element.number("y"), -0.1);
    EXPECT_GE(element.number("height"), 0);
    EXPECT_LE(element.number("x") + element.number("width"), width + 0.1);
    EXPECT_LE(element.number("y") + element.number("height"), height + 0.1);
  }
  const std::vector<Span> spans = words_of(elements);
  for (std::size_t i = 0; i < spans.size(); ++i) {
    EXPECT_GE(spans[i].left, 0) << spans[i].words;
    EXPECT_LE(spans[i].right, width) << spans[i].words;
    EXPECT_LE(spans[i].bottom, height) << spans[i].words;
    for (std::size_t j = i + 1; j < spans.size(); ++j) {
      const bool apart = spans[i].right <= spans[j].left || spans[j].right <= spans[i].left ||
                         spans[i].bottom <= spans[j].top || spans[j].bottom <= spans[i].top;
      EXPECT_TRUE(apart) << "'" << spans[i].words << "' runs into '" << spans[j].words << "'";
    }
  }
}

// `gpus` of the given sizes hold `layers` layers in turn, the CPU the head.
Planned wide_plan(const std::vector<std::uint64_t>& gpus, int layers) {
  Planned planned;
  planned.model.path = "wide";
  ModelTree& tree = planned.model.tree;
  tree.name = "wide";
  Plan& plan = planned.plan;
  const ModuleId list = testing::add_module(tree, "layers", testing::add_module(tree, "", kNone));
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    DeviceLedger device;
    device.name = std::to_string(g);
    device.capacity = gpus[g] * testing::kGiB;
    device.reserved = testing::kGiB / 2;
    plan.devices.push_back(device);
  }
  plan.devices.push_back({});
  plan.devices.back().name = "cpu";
  plan.devices.back().kind = DeviceKind::kCpu;
  plan.devices.back().capacity = 64 * testing::kGiB;
  for (int i = 0; i < layers; ++i) {
    LayerFacts facts;
    facts.module = testing::add_weight(tree, "layers." + std::to_string(i), list, 1);
    tree.facts.layers.push_back(facts);
    const auto device = static_cast<std::uint32_t>(
        static_cast<std::size_t>(i) * plan.devices.size() / static_cast<std::size_t>(layers));
    plan.placement.push_back({facts.module, device, testing::kGiB, ""});
    plan.devices[device].weights += testing::kGiB;
  }
  for (DeviceLedger& device : plan.devices) {
    const std::uint64_t held = device.reserved + device.weights;
    device.free = device.capacity > held ? device.capacity - held : 0;
    device.over = device.capacity > held ? 0 : held - device.capacity;
    if (device.over > 0) plan.shortfall = Shortfall{device.over, "", {}};
  }
  return planned;
}

TEST(Svg, IsSoundWhateverThePlan) {
  expect_sound(plan_svg(testing::made_plan()));
  expect_sound(plan_svg(wide_plan({141}, 4)));
  expect_sound(plan_svg(wide_plan({}, 30)));
  expect_sound(plan_svg(wide_plan({24, 8, 8, 8}, 40)));
  expect_sound(plan_svg(wide_plan({24, 24}, 200)));  // over the capacity
  expect_sound(plan_svg(wide_plan({8, 16, 24, 32, 40, 48, 80, 80, 80, 141}, 200)));
}

TEST(Svg, DrawsGpusToOneScale) {
  const std::vector<Element> elements = read_xml(plan_svg(wide_plan({24, 8, 8, 8}, 4)));
  std::vector<double> heights;
  for (std::size_t i = 1; i < elements.size(); ++i) {
    if (elements[i].name == "title" && elements[i].words.rfind("gpu", 0) == 0 &&
        elements[i].words.find("free") != std::string::npos) {
      heights.push_back(elements[i - 1].number("height"));
    }
  }
  ASSERT_EQ(heights.size(), 4u);
  EXPECT_NEAR(heights[0] / heights[1], 3.0, 0.01);
  EXPECT_NEAR(heights[1], heights[3], 0.01);
}

TEST(Svg, SaysWhereAColumnIsDrawnSmaller) {
  Planned planned = wide_plan({24}, 4);
  DeviceLedger& cpu = planned.plan.devices[1];
  cpu.capacity = 2000 * testing::kGiB;
  cpu.weights = 1000 * testing::kGiB;
  cpu.free = 1000 * testing::kGiB;
  const std::string svg = plan_svg(planned);
  expect_sound(svg);
  EXPECT_THAT(svg, HasSubstr("x smaller"));
  EXPECT_THAT(plan_svg(wide_plan({24}, 4)), Not(HasSubstr("x smaller")));
}

TEST(Svg, ShowsLayersLedgerAndBothQuestions) {
  const std::string svg = plan_svg(testing::made_plan());
  for (const char* words : {"layers.0-3", "gpu 0", "12.00 GiB", "load peak", "after load", "fits",
                            "the plain way", "30.00 GiB", "128.0 MiB"}) {
    EXPECT_THAT(svg, HasSubstr(words));
  }
}

TEST(Svg, EscapesNamesAndReplacesWhatXmlCannotHold) {
  Planned planned = testing::made_plan();
  planned.model.tree.name = "a<script>&\"'\x01\xff\xC3\xA9";
  const std::string svg = plan_svg(planned);
  expect_sound(svg);
  EXPECT_THAT(svg, HasSubstr("a&lt;script&gt;&amp;&quot;'\xEF\xBF\xBD\xEF\xBF\xBD\xC3\xA9"));
  EXPECT_EQ(xml_escape("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "a surrogate";
  EXPECT_EQ(xml_escape("\xF0\x9F\x99\x82"), "\xF0\x9F\x99\x82");
}

TEST(Svg, CutsWordsThatAreTooWide) {
  EXPECT_EQ(fitted("layers", 10, 1000), "layers");
  const std::string cut = fitted("a-very-long-name-of-a-module", 10, 60);
  EXPECT_LE(text_width(cut, 10), 60);
  EXPECT_THAT(cut, HasSubstr("\xE2\x80\xA6"));
  Planned planned = testing::made_plan();
  planned.model.tree.name = std::string(500, 'w');
  expect_sound(plan_svg(planned));
}

}  // namespace
}  // namespace berth
