// Lists of modules as quantisation configs write them: whole names, parts of names, and patterns.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/name_pattern.h"

namespace berth {

// Names and patterns, among which modules are looked up. A plain name stands for every module whose
// dotted name holds it as consecutive components, and for all modules below: "lm_head", "mlp.gate",
// "model.layers.0.self_attn". An entry that holds regular-expression characters or begins with
// "re:" is a pattern; it must match from the start of a module's name, as Python's re.match() does.
// A pattern that is not a regular expression is read as a glob ("*lm_head").
// Does not change once filled, so its const methods may be called from many threads.
class ModulePatterns {
 public:
  // All three throw Error for an entry that cannot be read, and quote it.
  void add(std::string_view entry);
  void add_pattern(std::string_view regex);
  void add_glob(std::string_view glob);  // only `*` is special; the whole name must match

  bool match(std::string_view module) const;
  bool empty() const { return names_.empty() && patterns_.empty(); }

 private:
  bool compile(std::string_view regex);  // false if it is not a regular expression
  [[noreturn]] static void fail(std::string_view entry);

  std::set<std::string, std::less<>> names_;
  std::vector<NamePattern> patterns_;
};

}  // namespace berth
