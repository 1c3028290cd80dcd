// Lists of modules as quantisation configs write them: plain names, whole or in part, and patterns.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/name_pattern.h"

namespace berth {

// Names and patterns that modules are looked up in. A plain name means every module whose dotted
// name has it as consecutive components, and all below it: "lm_head", "mlp.gate",
// "model.layers.0.self_attn". A pattern is what holds regular-expression characters, or begins with
// "re:"; it must match from the start of a module's name, as Python's re.match() does. One that is
// no regular expression is read as a glob ("*lm_head").
// Immutable once filled; const methods are safe from many threads.
class ModulePatterns {
 public:
  // All three throw Error quoting an entry that cannot be read.
  void add(std::string_view entry);
  void add_pattern(std::string_view regex);
  void add_glob(std::string_view glob);  // only `*` is special; the whole name must match

  bool match(std::string_view module) const;
  bool empty() const { return names_.empty() && patterns_.empty(); }

 private:
  bool compile(std::string_view regex);  // false where it is none
  [[noreturn]] static void fail(std::string_view entry);

  std::set<std::string, std::less<>> names_;
  std::vector<NamePattern> patterns_;
};

}  // namespace berth
