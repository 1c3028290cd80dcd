// GPT-2's one-to-one map between the 256 bytes and 256 printable characters.
//
// Printable Latin-1 bytes stand for themselves; the other 68 are the characters from U+0100 on, in
// order, so that no token holds a space or a control character.
#pragma once

#include <unicode/unistr.h>

#include <optional>
#include <string>

namespace berth {

// The bytes of the UTF-8 form of `text`, each as its character.
icu::UnicodeString to_byte_level(const icu::UnicodeString& text);

// The byte that the character `c` stands for; nullopt for a character outside the map.
std::optional<char> byte_of(UChar32 c);

}  // namespace berth
