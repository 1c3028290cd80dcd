// What is often found under the name of a file of weights: what was left there in place of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace berth {

// As many first bytes of a file as are looked at.
inline constexpr std::uint64_t kStandInBytes = 64;

// Throws Error naming `source` and the remedy where a file that is no weights begins as a Git LFS
// pointer or a web page does; else returns. For readers that know already that the file is not of
// their format, to say it better.
void refuse_stand_in(std::string_view head, const std::string& source);

}  // namespace berth
