// Unicode as the reference, Hugging Face tokenizers 0.23, knows it. Its parts do not agree on one
// version: patterns have the classes of Unicode 16.0, digits and lower case those of 17.0, the four
// normal forms those of 9.0. Debian's libraries have other versions, 14.0 and 15.0: what that makes
// different is corrected here, so that a text with newer letters gets the reference's ids.
//
// All functions are safe from many threads.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

struct OnigEncodingTypeST;  // of oniguruma.h, which does not go with glibc's regex.h

namespace berth {

// UTF-8 for Oniguruma, with the reference's classes and case pairs.
OnigEncodingTypeST* reference_utf8();

bool is_white_space(char32_t c);
bool is_word(char32_t c);     // \w of Rust's regular expressions (UTS 18, annex C)
bool is_numeric(char32_t c);  // general category N

// Lower case character by character, as Rust's char::to_lowercase: no context (final sigma), no
// language.
std::string lowercase(std::string_view text);

// Where the white space around `at` ends: behind it, and before it.
std::size_t skip_white_space(std::string_view text, std::size_t at);
std::size_t skip_white_space_back(std::string_view text, std::size_t at);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normalize(NormalForm form, std::string_view text);

}  // namespace berth
