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

icu::UnicodeString to_byte_level(const icu::UnicodeString& text) {
  std::string bytes;
  text.toUTF8String(bytes);
  icu::UnicodeString mapped(static_cast<std::int32_t>(bytes.size()), 0, 0);
  for (const char byte : bytes) mapped.append(kMap.character[static_cast<std::uint8_t>(byte)]);
  return mapped;
}

std::optional<char> byte_of(UChar32 c) {
  const auto index = static_cast<std::size_t>(c);
  if (c < 0 || index >= kMap.byte.size() || kMap.byte[index] < 0) return std::nullopt;
  return static_cast<char>(kMap.byte[index]);
}

}  // namespace berth
