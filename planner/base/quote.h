// Text from elsewhere (files, the command line, drivers) inside our own messages: one line,
// bounded, and printable, whatever the bytes were.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace berth {

// `text` with control bytes as \xNN, cut to `limit` bytes (then ending in "...").
std::string printable(std::string_view text, std::size_t limit = 80);

// 'text', with control bytes and quotes as \xNN, so that the quotes around it are the only ones. Of
// a text of more than `limit` bytes the middle is left out, as two long names often differ at the
// end.
std::string quote(std::string_view text, std::size_t limit = 160);

}  // namespace berth
