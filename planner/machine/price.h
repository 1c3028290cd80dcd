// What a machine costs, as people write it: "2.49/h", "$2.49/h", "2.49 EUR/h". Pure.
#pragma once

#include <string_view>

#include "berth/machine.h"

namespace berth {

// A number, with a currency before or after it if one likes, and "/h". A currency is a sign or a
// code; "$", "€" and "£" become USD, EUR and GBP. Throws Error of one line that says what is wrong.
Price parse_price(std::string_view text);

}  // namespace berth
