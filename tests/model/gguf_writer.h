// Writes GGUF files for tests, as ggml's docs/gguf.md describes them. It uses no code of Berth, so
// that a mistake there cannot hide.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace berth::testing {

class GgufWriter {
 public:
  void u32(std::string_view key, std::uint32_t value) { add(key, 4, raw(value)); }
  void boolean(std::string_view key, bool value) { add(key, 7, raw(std::uint8_t{value})); }
  void f32(std::string_view key, float value) { add(key, 6, raw(value)); }
  void text(std::string_view key, std::string_view value) { add(key, 8, string(value)); }
  void texts(std::string_view key, const std::vector<std::string>& values) {
    std::string payload = raw(std::uint32_t{8}) + raw(std::uint64_t{values.size()});
    for (const std::string& value : values) payload += string(value);
    add(key, 9, payload);
  }
  void i32s(std::string_view key, const std::vector<std::int32_t>& values) {
    numbers(key, 5, values);
  }
  void booleans(std::string_view key, const std::vector<std::uint8_t>& values) {
    numbers(key, 7, values);
  }
  void f32s(std::string_view key, const std::vector<float>& values) { numbers(key, 6, values); }

  // Adds a tensor. `shape` has the slowest dimension first; `type` is ggml's number.
  void tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> shape,
              std::string_view bytes) {
    descriptions_ += string(name) + raw(static_cast<std::uint32_t>(shape.size()));
    for (std::size_t i = shape.size(); i-- > 0;) descriptions_ += raw(shape[i]);
    descriptions_ += raw(type) + raw(std::uint64_t{data_.size()});
    data_ += bytes;
    pad(data_);
    ++tensors_;
  }
  void floats(std::string_view name, std::vector<std::uint64_t> shape,
              const std::vector<float>& values) {
    tensor(name, 0, std::move(shape),
           {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  std::string bytes() const {
    std::string file =
        "GGUF" + raw(std::uint32_t{3}) + raw(tensors_) + raw(values_) + metadata_ + descriptions_;
    pad(file);
    return file + data_;
  }
  void write(const std::filesystem::path& path) const {
    std::ofstream(path, std::ios::binary) << bytes();
  }

 private:
  template <typename Number>
  static std::string raw(Number value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  static std::string string(std::string_view value) {
    return raw(std::uint64_t{value.size()}) + std::string(value);
  }
  template <typename Number>
  void numbers(std::string_view key, std::uint32_t type, const std::vector<Number>& values) {
    std::string payload = raw(type) + raw(std::uint64_t{values.size()});
    for (const Number value : values) payload += raw(value);
    add(key, 9, payload);
  }
  static void pad(std::string& bytes) { bytes.resize((bytes.size() + 31) / 32 * 32); }
  void add(std::string_view key, std::uint32_t type, const std::string& payload) {
    metadata_ += string(key) + raw(type) + payload;
    ++values_;
  }

  std::string metadata_;
  std::string descriptions_;
  std::string data_;
  std::uint64_t values_ = 0;
  std::uint64_t tensors_ = 0;
};

}  // namespace berth::testing
