// Regular expressions over the names of modules and tensors, as users and quantisation configs
// write them for Python's re.match(). RE2 runs them, in time linear in the name. RE2 cannot look
// ahead or behind and has no back references. Patterns that need these are run by Oniguruma in
// Python's syntax, with a limit on how often it goes back to try another way. So no pattern can
// hold up a plan.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace berth {

// Does not change, so its const methods may be called from many threads.
class NamePattern {
 public:
  // Compiles `regex`. Returns nullopt if it is not a regular expression, or has more than 1,024
  // bytes.
  static std::optional<NamePattern> compile(std::string_view regex);
  ~NamePattern();
  NamePattern(NamePattern&&) noexcept;
  NamePattern& operator=(NamePattern&&) noexcept;

  // True if the pattern matches from the start of `name`, wherever the match ends. Throws Error,
  // naming both, if Oniguruma has gone back 100,000 times (about a millisecond).
  bool matches_start(std::string_view name) const;

 private:
  struct Compiled;
  explicit NamePattern(std::unique_ptr<const Compiled> compiled);

  std::unique_ptr<const Compiled> compiled_;
};

}  // namespace berth
