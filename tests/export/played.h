// How llama.cpp reads its placement arguments, imitated from its sources (common/arg.cpp,
// src/llama-model.cpp), for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace berth::testing {

// llama.cpp's reading of its arguments.
class Played {
 public:
  Played(const std::string& arguments, std::size_t layers) : layers_(layers) {
    std::istringstream in(arguments);
    for (std::string word; in >> word;) {
      if (word == "--no-mmproj-offload") {
        towers_offloaded_ = false;
        continue;
      }
      std::string value;
      in >> value;
      if (word == "-ngl") ngl_ = std::stoul(value);
      if (word == "-dev") devices_ = cut(value);
      if (word == "-ts") {
        for (const std::string& share : cut(value)) split_.push_back(std::stof(share));
      }
      if (word == "-ot") {
        overrides_.clear();                         // of several, only the last one counts
        value = value.substr(1, value.size() - 2);  // the quotes
        for (const std::string& item : cut(value)) {
          const std::size_t equals = item.find('=');
          overrides_.emplace_back(std::regex(item.substr(0, equals)), item.substr(equals + 1));
        }
      }
    }
    if (split_.empty()) split_ = {1};
    float sum = 0;
    for (float& share : split_) share = sum += share;
    for (float& share : split_) share /= sum;
  }

  // The device of a layer, or of the output, which counts as one more layer.
  std::string layer_device(std::size_t index) const {
    const std::size_t all = layers_ + 1;
    const std::size_t offloaded = std::min(ngl_, all);
    if (index < all - offloaded) return "CPU";
    const float at = static_cast<float>(index - (all - offloaded)) / static_cast<float>(offloaded);
    const auto gpu = static_cast<std::size_t>(std::upper_bound(split_.begin(), split_.end(), at) -
                                              split_.begin());
    return devices_.empty() ? "CUDA" + std::to_string(gpu) : devices_.at(gpu);
  }

  // Where the file of the towers goes (tools/mtmd/clip.cpp): the first GPU, unless told otherwise.
  std::string tower_device() const {
    if (!towers_offloaded_ || (!devices_.empty() && devices_.front() == "none")) return "CPU";
    return devices_.empty() ? "CUDA0" : devices_.front();
  }

  // An override can name only devices that llama.cpp uses.
  std::string override_of(const std::string& gguf) const {
    for (const auto& [pattern, where] : overrides_) {
      if (!std::regex_search(gguf, pattern)) continue;
      const bool known = where == "CPU" || devices_.empty() ||
                         std::find(devices_.begin(), devices_.end(), where) != devices_.end();
      return known ? where : where + ", which takes no part";
    }
    return "";
  }

  std::size_t offloaded() const { return ngl_; }
  const std::vector<float>& split() const { return split_; }

  std::string tensor(const std::string& gguf, std::size_t layer) const {
    const std::string where = override_of(gguf);
    return where.empty() ? layer_device(layer) : where;
  }

 private:
  static std::vector<std::string> cut(const std::string& list) {
    std::vector<std::string> items;
    std::istringstream in(list);
    for (std::string item; std::getline(in, item, ',');) items.push_back(item);
    return items;
  }
  std::size_t layers_, ngl_ = 0;
  bool towers_offloaded_ = true;
  std::vector<std::string> devices_;
  std::vector<float> split_;
  std::vector<std::pair<std::regex, std::string>> overrides_;
};

}  // namespace berth::testing
