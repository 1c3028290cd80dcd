// The cases of data/defaults, which make_default_goldens.py explains: configs that leave a key out,
// and what transformers makes of them.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "berth/model.h"

namespace berth::test {

struct DefaultCase {
  std::string name;                // "llama: -rms_norm_eps"
  std::string config;              // the text of config.json
  std::vector<std::string> keys;   // those that were changed
  std::vector<std::string> lines;  // what transformers makes of it, sorted
  std::vector<std::string> base;   // what it makes of the family's first case
  bool fails = false;              // it refuses the config

  bool has(const std::string& line) const {
    return std::find(lines.begin(), lines.end(), line) != lines.end();
  }
};

using ConfigKeys = std::vector<std::pair<std::string, std::string>>;  // key and value as JSON

inline std::string config_text(const ConfigKeys& keys) {
  std::string text = "{";
  for (const auto& [key, value] : keys) {
    if (text.size() > 1) text += ", ";
    text.append("\"").append(key).append("\": ").append(value);
  }
  return text + "}";
}

// "case<TAB>-KEY<TAB>KEY=VALUE"
inline DefaultCase changed_case(const std::string& family, ConfigKeys keys, std::string line) {
  DefaultCase out;
  out.name = family + ":" + line.substr(4);
  line += '\t';
  for (std::size_t at = line.find('\t') + 1; at < line.size(); at = line.find('\t', at) + 1) {
    const std::string word = line.substr(at, line.find('\t', at) - at);
    const bool left_out = word.starts_with('-');
    const std::string key = left_out ? word.substr(1) : word.substr(0, word.find('='));
    std::erase_if(keys, [&](const auto& entry) { return entry.first == key; });
    if (!left_out) keys.emplace_back(key, word.substr(word.find('=') + 1));
    out.keys.push_back(key);
  }
  out.config = config_text(keys);
  return out;
}

inline std::vector<DefaultCase> read_default_cases(const std::filesystem::path& file) {
  std::ifstream in(file);
  ConfigKeys keys;
  std::vector<DefaultCase> cases;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("= ")) {
      const std::size_t tab = line.find('\t');
      keys.emplace_back(line.substr(2, tab - 2), line.substr(tab + 1));
    } else if (line.starts_with("case")) {
      cases.push_back(changed_case(file.stem().string(), keys, line));
      cases.back().lines = cases.front().lines;
    } else if (line == " fails") {
      cases.back().fails = true;
    } else if (line.starts_with(" -")) {
      std::erase(cases.back().lines, line.substr(2));
    } else {
      cases.back().lines.push_back(line.substr(line.starts_with(" +") ? 2 : 1));
    }
  }
  for (DefaultCase& one : cases) {
    std::sort(one.lines.begin(), one.lines.end());
    one.base = cases.front().lines;
  }
  return cases;
}

inline std::vector<std::string> default_families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(BERTH_SOURCE_DIR) / "tests/model/data/defaults")) {
    names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<DefaultCase> default_cases(const std::string& family) {
  return read_default_cases(std::filesystem::path(BERTH_SOURCE_DIR) / "tests/model/data/defaults" /
                            (family + ".txt"));
}

// Lines that differ only in a layer become one: "tensor model.layers.{0-2}.mlp.up_proj.weight".
class FoldedLines {
 public:
  void add(const std::string& head, std::size_t layer, const std::string& tail) {
    const auto same = [&](const Group& g) { return g.head == head && g.tail == tail; };
    auto group = std::find_if(groups_.begin(), groups_.end(), same);
    if (group == groups_.end()) group = groups_.insert(group, {head, tail, {}});
    group->layers.push_back(layer);
  }

  std::vector<std::string> take() const {
    std::vector<std::string> lines;
    for (const Group& group : groups_) {
      std::string runs;
      for (std::size_t first = 0, i = 1; i <= group.layers.size(); ++i) {
        if (i < group.layers.size() && group.layers[i] == group.layers[i - 1] + 1) continue;
        runs += (runs.empty() ? "" : ",") + std::to_string(group.layers[first]);
        if (i - first > 1) runs += "-" + std::to_string(group.layers[i - 1]);
        first = i;
      }
      lines.push_back(group.head + "{" + runs + "}" + group.tail);
    }
    return lines;
  }

 private:
  struct Group {
    std::string head;
    std::string tail;
    std::vector<std::size_t> layers;
  };
  std::vector<Group> groups_;
};

}  // namespace berth::test
