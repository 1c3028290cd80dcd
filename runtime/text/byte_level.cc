#include "runtime/text/byte_level.h"

#include <array>
#include <cstdint>

namespace berth {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Map {
  std::array<char16_t, 256> character{};
  std::array<std::int16_t, 0x144> byte{};  // by character; -1: none
};

constexpr Map make_map() {
  Map map;
  map.byte.fill(-1);
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char16_t c = stands_for_itself(byte) ? static_cast<char16_t>(byte) : next++;
    map.character[static_cast<std::size_t>(byte)] = c;
    map.byte[c] = static_cast<std::int16_t>(byte);
  }
  return map;
}

constexpr Map kMap = make_map();

}  // namespace

std::string to_byte_level(std::string_view text) {
  std::string mapped;
  mapped.reserve(text.size() + text.size() / 4);
  for (const char byte : text) {
    const char16_t c = kMap.character[static_cast<std::uint8_t>(byte)];  // below 0x800
    if (c < 0x80) {
      mapped.push_back(static_cast<char>(c));
    } else {
      mapped.push_back(static_cast<char>(0xC0 | c >> 6));
      mapped.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    }
  }
  return mapped;
}

std::optional<char> byte_of(char32_t c) {
  const auto index = static_cast<std::size_t>(c);
  if (index >= kMap.byte.size() || kMap.byte[index] < 0) return std::nullopt;
  return static_cast<char>(kMap.byte[index]);
}

}  // namespace berth
