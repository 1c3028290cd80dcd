// UTF-8 at its edges: checking input, and turning a stream of bytes into well-formed text.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace berth {

// Bytes of the well-formed sequence that `text` begins with; 0 where there is none: in an empty
// text too, for overlong forms, surrogates and what is above U+10FFFF.
std::size_t utf8_length(std::string_view text);

// Offset of the first byte that starts no well-formed sequence; nullopt where all are well-formed.
std::optional<std::size_t> find_ill_formed_utf8(std::string_view bytes);

// Bytes in, whole characters out: an unfinished sequence is held back until the rest arrives.
// Ill-formed bytes become U+FFFD, one per maximal subpart, as Unicode recommends (3.9, table 3-8)
// and as Hugging Face decodes.
class Utf8Stream {
 public:
  // What `bytes` completes; may be empty.
  std::string push(std::string_view bytes);
  // U+FFFD for what never became a character; empty where nothing is held back.
  std::string finish();

 private:
  std::string held_;
};

// All of `bytes` through one Utf8Stream.
std::string lossy_utf8(std::string_view bytes);

}  // namespace berth
