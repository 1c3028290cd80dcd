// Names kept end to end in a few large blocks.
//
// A model of sixty thousand modules and as many tensors has a hundred thousand dotted names, most
// of which begin with another one. Each as a string of its own is an allocation and a copy; here it
// is a few bytes after the name that it continues.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

// A view of a name that lives in a NameArena or in the program's text, so that one cannot be left
// of a string that is gone.
class Name : public std::string_view {
 public:
  constexpr Name() = default;
  template <std::size_t kSize>
  constexpr Name(const char (&literal)[kSize]) : std::string_view(literal) {}  // NOLINT: as text

 private:
  friend class NameArena;
  constexpr explicit Name(std::string_view text) : std::string_view(text) {}
};

// Names stay where they are until the arena and all its copies are gone: a copy shares the blocks.
// Not thread-safe, neither are two copies of one arena.
class NameArena {
 public:
  // Room for `bytes` more at once.
  void reserve(std::size_t bytes);

  Name add(std::string_view text);

  // "a.b" and "c" give "a.b.c"; an empty parent, which is the root's name, gives "c".
  Name join(Name parent, std::string_view child);

 private:
  struct Blocks {
    std::vector<std::unique_ptr<char[]>> all;
    char* next = nullptr;  // free room of the last block: up to `end`
    char* end = nullptr;
  };

  Blocks& blocks();
  // Room for `bytes`, which is used from then on.
  char* take(std::size_t bytes);

  std::shared_ptr<Blocks> blocks_;
};

}  // namespace berth
