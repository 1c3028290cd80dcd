#include "planner/model/quant/module_patterns.h"

#include <algorithm>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::string_view kSpecial = "*+?()[]{}|^$\\";

std::string regex_of_glob(std::string_view glob) {
  std::string out;
  for (const char c : glob) {
    if (c == '*') {
      out += ".*";
    } else {
      if (c == '.' || kSpecial.find(c) != kSpecial.npos) out += '\\';
      out += c;
    }
  }
  return out + "$";
}

}  // namespace

void ModulePatterns::add(std::string_view entry) {
  if (entry.starts_with("re:")) {
    add_pattern(entry.substr(3));
  } else if (entry.find_first_of(kSpecial) == entry.npos) {
    if (!entry.empty()) names_.emplace(entry);
  } else if (!compile(entry)) {
    add_glob(entry);
  }
}

void ModulePatterns::add_glob(std::string_view glob) {
  if (glob.find_first_of(kSpecial) == glob.npos) {
    add(glob);
  } else if (!compile(regex_of_glob(glob))) {
    fail(glob);
  }
}

void ModulePatterns::add_pattern(std::string_view regex) {
  if (!compile(regex)) fail(regex);
}

bool ModulePatterns::compile(std::string_view regex) {
  auto pattern = NamePattern::compile(regex);
  if (!pattern) return false;
  patterns_.push_back(std::move(*pattern));
  return true;
}

void ModulePatterns::fail(std::string_view entry) {
  throw Error(quote(entry) + " is neither a module's name nor a regular expression");
}

bool ModulePatterns::match(std::string_view module) const {
  // Looks up every run of components, which are few: names have only a handful of dots.
  for (std::size_t from = 0; !names_.empty() && from != module.npos;) {
    for (std::size_t to = from; to != module.npos; ++to) {
      to = std::min(module.find('.', to), module.size());
      if (names_.contains(module.substr(from, to - from))) return true;
      if (to == module.size()) break;
    }
    const std::size_t dot = module.find('.', from);
    from = dot == module.npos ? dot : dot + 1;
  }
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const NamePattern& pattern) { return pattern.matches_start(module); });
}

}  // namespace berth
