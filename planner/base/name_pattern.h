// Regular expressions over the names of modules and tensors, as users and quantisation configs
// write them for Python's re.match(). RE2 runs them, in time linear in the name. What RE2 leaves
// out for that (looking ahead and behind, back references) Oniguruma runs in Python's syntax, with
// a limit on how often it goes back to try another way: no pattern can hold up a plan.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace berth {

// Immutable; const methods are safe from many threads.
class NamePattern {
 public:
  // nullopt where `regex` is no regular expression, or has more than 1,024 bytes.
  static std::optional<NamePattern> compile(std::string_view regex);
  ~NamePattern();
  NamePattern(NamePattern&&) noexcept;
  NamePattern& operator=(NamePattern&&) noexcept;

  // True where the pattern matches from the start of `name`, wherever the match ends.
  // Throws Error naming both where Oniguruma has gone back 100,000 times (about a millisecond).
  bool matches_start(std::string_view name) const;

 private:
  struct Compiled;
  explicit NamePattern(std::unique_ptr<const Compiled> compiled);

  std::unique_ptr<const Compiled> compiled_;
};

}  // namespace berth
