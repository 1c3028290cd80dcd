// Answers questions about a parsed GGUF head. The parser has checked every offset that is used
// here.
#include "planner/checkpoint/gguf/header.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

template <typename Number>
Number load(const std::string& bytes, std::uint64_t at) {
  Number value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

constexpr std::uint64_t kMostNumbers = 4'000'000;  // many times the largest vocabulary
constexpr std::uint64_t kWidths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

}  // namespace

void GgufHeader::fail(std::string_view key, const std::string& what) const {
  throw Error(position(key) + ": " + what);
}

std::string GgufHeader::position(std::string_view key) const {
  return source_ + ": " + std::string(key);
}

std::string_view GgufHeader::key_of(const GgufValue& value) const {
  return std::string_view(bytes_).substr(value.key_at, value.key_bytes);
}

std::vector<GgufHeader::Entry> GgufHeader::entries() const {
  std::vector<GgufValue> in_order = values_;
  std::ranges::sort(in_order, {}, &GgufValue::key_at);
  std::vector<Entry> entries;
  for (const GgufValue& value : in_order) {
    const std::uint64_t begin = value.key_at - sizeof(std::uint64_t);  // the length of the key
    entries.push_back({key_of(value), std::string_view(bytes_).substr(begin, value.end - begin)});
  }
  return entries;
}

const GgufValue* GgufHeader::find(std::string_view key) const {
  const auto found = std::ranges::lower_bound(
      values_, key, {}, [&](const GgufValue& value) { return key_of(value); });
  return found == values_.end() || key_of(*found) != key ? nullptr : &*found;
}

bool GgufHeader::is_list(std::string_view key) const {
  const GgufValue* value = find(key);
  return value != nullptr && value->array;
}

std::optional<std::int64_t> GgufHeader::integer_at(GgufType type, std::uint64_t at) const {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kBool:
      return load<std::uint8_t>(bytes_, at);
    case GgufType::kI8:
      return load<std::int8_t>(bytes_, at);
    case GgufType::kU16:
      return load<std::uint16_t>(bytes_, at);
    case GgufType::kI16:
      return load<std::int16_t>(bytes_, at);
    case GgufType::kU32:
      return load<std::uint32_t>(bytes_, at);
    case GgufType::kI32:
      return load<std::int32_t>(bytes_, at);
    case GgufType::kI64:
      return load<std::int64_t>(bytes_, at);
    case GgufType::kU64: {
      const auto value = load<std::uint64_t>(bytes_, at);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) break;
      return static_cast<std::int64_t>(value);
    }
    default:
      break;
  }
  return std::nullopt;
}

std::optional<double> GgufHeader::number_at(GgufType type, std::uint64_t at) const {
  if (type == GgufType::kF32) return load<float>(bytes_, at);
  if (type == GgufType::kF64) return load<double>(bytes_, at);
  const auto integer = integer_at(type, at);
  return integer ? std::optional(static_cast<double>(*integer)) : std::nullopt;
}

std::optional<std::uint64_t> GgufHeader::unsigned_integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto integer = value->array ? std::nullopt : integer_at(value->type, value->at);
  if (!integer || *integer < 0) fail(key, "not a non-negative integer");
  return static_cast<std::uint64_t>(*integer);
}

std::optional<double> GgufHeader::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = value->array ? std::nullopt : number_at(value->type, value->at);
  if (!number) fail(key, "not a number");
  return number;
}

std::optional<bool> GgufHeader::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->array || value->type != GgufType::kBool) fail(key, "not true or false");
  return load<std::uint8_t>(bytes_, value->at) != 0;
}

std::optional<std::string_view> GgufHeader::text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->array || value->type != GgufType::kString) fail(key, "not a string");
  return std::string_view(bytes_).substr(value->at + 8, load<std::uint64_t>(bytes_, value->at));
}

std::vector<std::string_view> GgufHeader::texts(std::string_view key) const {
  std::vector<std::string_view> out;
  const GgufValue* value = find(key);
  if (value == nullptr) return out;
  if (!value->array || value->type != GgufType::kString) fail(key, "not an array of strings");
  out.reserve(value->count);
  for (std::uint64_t i = 0, at = value->at; i < value->count; ++i) {
    const auto length = load<std::uint64_t>(bytes_, at);
    out.push_back(std::string_view(bytes_).substr(at + 8, length));
    at += 8 + length;
  }
  return out;
}

std::vector<std::int64_t> GgufHeader::integers(std::string_view key) const {
  std::vector<std::int64_t> out;
  const GgufValue* value = find(key);
  if (value == nullptr) return out;
  if (value->count > kMostNumbers) {
    fail(key, "a list of more than " + std::to_string(kMostNumbers) + " integers");
  }
  const std::uint64_t width = kWidths[static_cast<std::size_t>(value->type)];
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto integer = integer_at(value->type, value->at + i * width);
    if (!integer) fail(key, "not a list of integers");
    out.push_back(*integer);
  }
  return out;
}

std::vector<double> GgufHeader::numbers(std::string_view key) const {
  std::vector<double> out;
  const GgufValue* value = find(key);
  if (value == nullptr) return out;
  if (value->count > kMostNumbers) {
    fail(key, "a list of more than " + std::to_string(kMostNumbers) + " numbers");
  }
  const std::uint64_t width = kWidths[static_cast<std::size_t>(value->type)];
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto number = number_at(value->type, value->at + i * width);
    if (!number) fail(key, "not a list of numbers");
    out.push_back(*number);
  }
  return out;
}

}  // namespace berth
