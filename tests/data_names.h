// The cases of a test that has a file for each: found in the folder, so that a new file is a new
// case.
#pragma once

#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace berth::testing {

// The names for which the folder DATA of the sources holds a file NAME + `ending`, sorted:
// "gpt2" is one where there is gpt2.json and `ending` is ".json", or gpt2/tree.txt and it is
// "/tree.txt".
inline std::vector<std::string> data_names(const std::string& data, const std::string& ending) {
  const std::filesystem::path folder = std::filesystem::path(BERTH_SOURCE_DIR) / data;
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::string name = entry.path().filename().string();
    if (ending.front() == '/') {
      if (std::filesystem::exists(entry.path() / ending.substr(1))) names.insert(name);
    } else if (name.ends_with(ending)) {
      names.insert(name.substr(0, name.size() - ending.size()));
    }
  }
  if (names.empty()) throw std::runtime_error(data + " holds no file that ends in " + ending);
  return {names.begin(), names.end()};
}

}  // namespace berth::testing
