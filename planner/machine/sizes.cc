#include "planner/machine/sizes.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

#include "berth/error.h"
#include "planner/base/near_miss.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr double kKi = 1024.0;
constexpr std::array<Unit, 11> kByteUnits = {{{"B", 1},
                                              {"KB", 1e3},
                                              {"MB", 1e6},
                                              {"GB", 1e9},
                                              {"TB", 1e12},
                                              {"PB", 1e15},
                                              {"KiB", kKi},
                                              {"MiB", kKi* kKi},
                                              {"GiB", kKi* kKi* kKi},
                                              {"TiB", kKi* kKi* kKi* kKi},
                                              {"PiB", kKi* kKi* kKi* kKi* kKi}}};
constexpr std::array<Unit, 7> kFlopUnits = {
    {{"", 1}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15}, {"E", 1e18}}};
constexpr std::array<std::string_view, 4> kFlopEndings = {"FLOP/s", "FLOPS", "FLOPs/s", "FLOP"};
// Case matters here: "Ms" is no millisecond.
constexpr std::array<Unit, 6> kTimeUnits = {
    {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"\u00b5s", 1e-6}, {"\u03bcs", 1e-6}, {"ns", 1e-9}}};

// One value, and the words with which it is refused.
struct Quantity {
  std::string_view text;    // as given
  std::string_view digits;  // "1.5"
  std::string_view unit;    // "GiB"
  double number = 0;
  std::string_view noun;     // "a size"
  std::string_view example;  // "24GiB"

  [[noreturn]] void refuse(const std::string& advice) const {
    throw Error(quote(text, 80) + " is not " + std::string(noun) + " (" + advice + ")");
  }
  [[noreturn]] void refuse() const { refuse("write it like " + std::string(example)); }
  // "try 80GB": the same number with a unit that exists.
  [[noreturn]] void refuse_unit(const std::vector<std::string>& units) const {
    const std::optional<std::string> hint = nearest(unit, units);
    if (!hint) refuse();
    refuse("try " + printable(digits) + *hint);
  }
};

bool is_space(char c) { return c == ' ' || c == '\t'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

bool same_letters(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (upper(a[i]) != upper(b[i])) return false;
  return true;
}

// Splits number and unit. Refuses text that does not begin with a digit or a dot, such as "-1" and
// "inf".
Quantity split(std::string_view text, std::string_view noun, std::string_view example) {
  Quantity quantity{text, {}, {}, 0, noun, example};
  const std::string_view body = trim(text);
  if (body.empty()) quantity.refuse();
  if (body.front() == '-') quantity.refuse("it is negative");
  if ((body.front() < '0' || body.front() > '9') && body.front() != '.') quantity.refuse();
  const char* end = body.data() + body.size();
  const auto [stop, error] = std::from_chars(body.data(), end, quantity.number);
  if (error == std::errc::result_out_of_range) quantity.refuse("the number is out of range");
  if (error != std::errc()) quantity.refuse();
  quantity.digits = body.substr(0, static_cast<std::size_t>(stop - body.data()));
  quantity.unit = trim(body.substr(quantity.digits.size()));
  return quantity;
}

std::vector<std::string> names(std::span<const Unit> units, std::string_view ending = "") {
  std::vector<std::string> all;
  for (const Unit& unit : units) all.push_back(std::string(unit.name) + std::string(ending));
  return all;
}

// The bytes of `unit`. `ending` ("" or "/s") is added to units in the advice.
double byte_factor(const Quantity& quantity, std::string_view unit, std::string_view ending) {
  if (unit.empty()) return 1;
  for (const Unit& known : kByteUnits) {
    if (!same_letters(unit, known.name)) continue;
    const bool bits = unit.back() == 'b' && unit.find_first_of("iI") == std::string_view::npos;
    if (!bits) return known.factor;
    quantity.refuse("a lowercase b means bits; for bytes write " + printable(quantity.digits) +
                    std::string(known.name) + std::string(ending));
  }
  if (unit.size() == 1 &&
      std::string_view("KMGTP").find(upper(unit[0])) != std::string_view::npos) {
    const std::string prefix = printable(quantity.digits) + upper(unit[0]);
    quantity.refuse("try " + prefix + "B" + std::string(ending) + " or " + prefix + "iB" +
                    std::string(ending));
  }
  quantity.refuse_unit(names(kByteUnits, ending));
}

// A rate or a time. Refuses infinity, so that sums and ratios of them stay numbers.
double scaled(const Quantity& quantity, double factor) {
  const double value = quantity.number * factor;
  if (!std::isfinite(value)) quantity.refuse("the number is out of range");
  return value;
}

std::string decimal(double value, int decimals) {
  std::array<char, 400> buffer;
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return {buffer.data(), static_cast<std::size_t>(length)};
}

}  // namespace

std::uint64_t parse_size(std::string_view text) {
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 63;
  const Quantity size = split(text, "a size", "24GiB or 80GB");
  const double factor = byte_factor(size, size.unit, "");
  const std::string too_large = "it is 2^63 bytes or more";
  std::uint64_t whole = 0;
  const char* end = size.digits.data() + size.digits.size();
  const auto [stop, error] = std::from_chars(size.digits.data(), end, whole);
  if (stop == end && error == std::errc()) {
    const auto unit_bytes = static_cast<std::uint64_t>(factor);
    if (whole > (kLimit - 1) / unit_bytes) size.refuse(too_large);
    return whole * unit_bytes;
  }
  const double bytes = size.number * factor;
  if (!(bytes < 0x1p63)) size.refuse(too_large);
  return static_cast<std::uint64_t>(bytes);
}

double parse_bandwidth(std::string_view text) {
  const Quantity rate = split(text, "a bandwidth", "25GB/s");
  if (rate.unit.empty()) return rate.number;
  const bool per_second =
      rate.unit.size() > 2 && same_letters(rate.unit.substr(rate.unit.size() - 2), "/s");
  if (!per_second) {
    for (const Unit& unit : kByteUnits)
      if (same_letters(rate.unit, unit.name))
        rate.refuse("try " + printable(rate.digits) + std::string(unit.name) + "/s");
    rate.refuse_unit(names(kByteUnits, "/s"));
  }
  return scaled(rate, byte_factor(rate, trim(rate.unit.substr(0, rate.unit.size() - 2)), "/s"));
}

double parse_flops(std::string_view text) {
  const Quantity rate = split(text, "a rate of FLOP/s", "165TFLOP/s");
  if (rate.unit.empty()) return rate.number;
  for (const Unit& unit : kFlopUnits)
    for (const std::string_view ending : kFlopEndings)
      if (same_letters(rate.unit, std::string(unit.name) + std::string(ending)))
        return scaled(rate, unit.factor);
  rate.refuse_unit(names(kFlopUnits, "FLOP/s"));
}

double parse_duration(std::string_view text) {
  const Quantity time = split(text, "a time", "10us or 1.5ms");
  if (time.unit.empty() && time.number == 0) return 0;
  if (time.unit.empty()) time.refuse("a unit is missing: s, ms, us or ns");
  for (const Unit& unit : kTimeUnits)
    if (time.unit == unit.name) return scaled(time, unit.factor);
  time.refuse_unit(names(kTimeUnits));
}

std::string format_gib(std::uint64_t bytes, int decimals) {
  return decimal(static_cast<double>(bytes) / (kKi * kKi * kKi), decimals);
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr std::array<const char*, 6> kNames = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  double value = static_cast<double>(bytes) / kKi;
  std::size_t unit = 0;
  const auto shown = [&] { return decimal(value, unit < 2 ? 1 : 2); };
  // Compares what will be printed, so that 1023.99 KiB is "1.0 MiB" and never "1024.0 KiB".
  while (unit + 1 < kNames.size() && std::stod(shown()) >= kKi) {
    value /= kKi;
    ++unit;
  }
  return shown() + kNames[unit];
}

}  // namespace berth
