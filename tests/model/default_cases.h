// The cases of data/defaults, which make_default_goldens.py explains: configs that leave a key out,
// and what transformers makes of them.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "berth/model.h"

namespace berth::test {

struct DefaultCase {
  std::string name;                  // "llama: -rms_norm_eps"
  std::string config;                // the text of config.json
  std::vector<std::string> keys;     // those that were changed
  std::vector<std::string> lines;    // what transformers makes of it, sorted
  std::vector<std::string> base;     // what it makes of the family's first case
  std::vector<std::string> telling;  // some of its tensors, to show how they differ
  bool fails = false;                // it refuses the config

  bool has(const std::string& line) const {
    return std::find(lines.begin(), lines.end(), line) != lines.end();
  }
};

using ConfigKeys = std::vector<std::pair<std::string, std::string>>;  // key and value as JSON

// A key "vision_config.depth" stands in an object of its own.
inline std::string config_text(const ConfigKeys& keys) {
  std::string text;
  std::vector<std::pair<std::string, std::string>> objects;  // name, and what is in it
  for (const auto& [key, value] : keys) {
    const std::size_t dot = key.find('.');
    const std::string object = key.substr(0, dot == key.npos ? 0 : dot);
    auto inside = std::find_if(objects.begin(), objects.end(),
                               [&](const auto& entry) { return entry.first == object; });
    if (inside == objects.end()) inside = objects.insert(inside, {object, ""});
    if (!inside->second.empty()) inside->second += ", ";
    inside->second.append("\"").append(dot == key.npos ? key : key.substr(dot + 1));
    inside->second.append("\": ").append(value);
  }
  for (const auto& [object, inside] : objects) {
    if (!text.empty()) text += ", ";
    text += object.empty() ? inside : "\"" + object + "\": {" + inside + "}";
  }
  return "{" + text + "}";
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

inline std::string kind_of(const std::string& line) { return line.substr(0, line.find(' ')); }

// Applies a line below a case: what the model has (" +", " ~" and in the first case " ") or lacks.
inline void apply_line(DefaultCase& one, const std::string& line) {
  const auto drop_kind = [&one](const std::string& kind) {
    std::erase_if(one.lines, [&](const std::string& other) { return kind_of(other) == kind; });
  };
  if (line == " fails") {
    one.fails = true;
  } else if (line == " too large" || line == " run fails") {
    drop_kind("keeps");
    drop_kind("window");
    if (line == " run fails") one.lines.push_back(line.substr(1));
  } else if (line.starts_with(" -")) {
    std::erase(one.lines, line.substr(2));
  } else if (line.starts_with(" ~")) {
    one.telling.push_back(line.substr(2));
  } else if (line.starts_with(" +")) {
    const std::string kind = kind_of(line.substr(2));
    if (kind == "parameters" || kind == "tensors" || kind == "positions") drop_kind(kind);
    one.lines.push_back(line.substr(2));
  } else {
    one.lines.push_back(line.substr(1));
  }
}

inline std::vector<DefaultCase> read_default_cases(const std::filesystem::path& file) {
  std::ifstream in(file);
  const std::string family = file.stem().string();
  ConfigKeys keys;
  std::vector<DefaultCase> cases;
  std::size_t first = 0;  // of those that the lines below belong to
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("= ")) {
      const std::size_t tab = line.find('\t');
      keys.emplace_back(line.substr(2, tab - 2), line.substr(tab + 1));
    } else if (line.starts_with("case") || line.starts_with("each")) {
      first = cases.size();
      std::vector<std::string> changes{line};
      if (line.starts_with("each")) {
        changes.clear();
        for (std::size_t at = line.find('\t'); at != line.npos; at = line.find('\t', at + 1)) {
          changes.push_back("case" + line.substr(at, line.find('\t', at + 1) - at));
        }
      }
      for (const std::string& change : changes) {
        cases.push_back(changed_case(family, keys, change));
        cases.back().lines = cases.front().lines;
      }
    } else {
      for (std::size_t i = first; i < cases.size(); ++i) apply_line(cases[i], line);
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
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
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
    const auto [known, fresh] = numbers_.emplace(std::pair(head, tail), groups_.size());
    if (fresh) groups_.push_back({head, tail, {}});
    groups_[known->second].layers.push_back(layer);
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
  std::map<std::pair<std::string, std::string>, std::size_t> numbers_;  // of groups_
};

}  // namespace berth::test
