// Names from files in error messages: quoted, shortened, and always one printable line.
#pragma once

#include <string>
#include <string_view>

namespace berth {

// 'name', with control characters and quotes as \xNN and the middle of a very long name left out.
std::string quote(std::string_view name);

}  // namespace berth
