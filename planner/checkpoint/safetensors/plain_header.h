// A safetensors header in the one spelling that the format's own writer gives, read in one go.
//
// The reference writer puts no white space between tokens, the keys of a tensor in one order, and
// numbers without signs, and nearly all names are plain ASCII. Reading just that takes a quarter of
// what a JSON parser takes, and headers are most of the work of opening a model with tens of
// thousands of tensors. Whatever is spelled otherwise is left to the JSON parser: what is read here
// is what that would have found, and no more is accepted.
#pragma once

#include <cstdint>
#include <string_view>

#include "berth/tensor.h"
#include "planner/checkpoint/safetensors/plain_json.h"

namespace berth {

// A tensor's entry as it is spelled; nothing of it has been checked but the JSON.
struct PlainEntry {
  std::string_view name;
  std::string_view dtype;
  Shape shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

class PlainHeader {
 public:
  // PlainJson::kPadding bytes must be readable after the end of `json`.
  explicit PlainHeader(std::string_view json) : json_(json) {}

  // The next tensor into `entry`. False at the end of the tensors, and where the text is not of
  // this spelling: complete() tells one from the other.
  bool next(PlainEntry& entry);

  // Whether next() came to the closing '}', with nothing but spaces after it.
  bool complete() const { return complete_; }

 private:
  bool metadata();
  bool fields(PlainEntry& entry);
  bool close();

  PlainJson json_;
  bool begun_ = false;
  bool complete_ = false;
};

}  // namespace berth
