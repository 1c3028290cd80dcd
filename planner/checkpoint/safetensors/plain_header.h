// Reads a safetensors header in one pass, if it is spelled as the format's own writer does.
//
// The reference writer puts no white space between tokens, writes the keys of a tensor in one order
// and numbers without signs, and nearly all names are plain ASCII. Reading only this spelling takes
// a quarter of the time of a JSON parser, and headers are most of the work of opening a model with
// tens of thousands of tensors. Whatever is spelled otherwise is left to the JSON parser. This
// reader accepts nothing that the JSON parser would refuse, and reads the same from what it
// accepts.
#pragma once

#include <cstdint>
#include <string_view>

#include "berth/tensor.h"
#include "planner/checkpoint/safetensors/plain_json.h"

namespace berth {

// A tensor's entry as it is spelled. It is known to be JSON; nothing else has been checked.
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

  // Reads the next tensor into `entry`. Returns false at the end of the tensors, and also where the
  // text is spelled in another way: complete() tells which.
  bool next(PlainEntry& entry);

  // Whether next() reached the closing '}' and found only spaces after it.
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
