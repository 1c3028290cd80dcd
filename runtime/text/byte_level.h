// GPT-2's one-to-one map between the 256 bytes and 256 printable characters.
//
// Printable Latin-1 bytes stand for themselves; the other 68 are the characters from U+0100 on, in
// order, so that no token holds a space or a control character.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace berth {

// The bytes of `text`, each as its character, in UTF-8.
std::string to_byte_level(std::string_view text);

// The byte that the character `c` stands for; nullopt for a character outside the map.
std::optional<char> byte_of(char32_t c);

}  // namespace berth
