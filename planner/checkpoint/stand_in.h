// Recognises files that carry the name of a weights file but hold something else in its place, as
// an unfinished download leaves them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace berth {

// As many bytes from the start of a file are looked at.
inline constexpr std::uint64_t kStandInBytes = 64;

// Throws Error if `head`, the first bytes of a file, is the start of a Git LFS pointer or of a web
// page; the message names `source` and says how to get the real file. Otherwise returns. Readers
// call it once they know that the file is not in their format, to give a better message.
void refuse_stand_in(std::string_view head, const std::string& source);

}  // namespace berth
