// Texts as YAML, for files that are written by Berth and read by people.
#pragma once

#include <string>
#include <string_view>

namespace berth {

// `text` as a scalar in double quotes on one line, which reads back as `text`. Bytes that are no
// UTF-8 become U+FFFD.
std::string yaml_quote(std::string_view text);

}  // namespace berth
