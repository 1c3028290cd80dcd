// The header of one safetensors file: eight bytes that hold its length, little-endian, and then a
// JSON object.
//
// HeaderParser keeps its buffers between files, so that opening hundreds of shards allocates only
// once. parse_safetensors_header() is the form that tests and fuzzers call.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"
#include "planner/checkpoint/name_table.h"

namespace berth {

// Reads the header's length in bytes from the first eight bytes of a file of `file_bytes` bytes.
// Throws Error if the header would be over the limit or reach past the end of the file.
std::uint64_t read_header_length(std::string_view first_bytes, std::uint64_t file_bytes,
                                 const std::string& source, const CheckpointLimits& limits);

// Parses one header after another. Not thread-safe.
class HeaderParser {
 public:
  // Parses a header and appends its tensors to `tensors`, in the order of their offsets. `json` is
  // the header without its length bytes; simdjson::SIMDJSON_PADDING bytes after its end must be
  // readable. Throws Error for every violation of the format; the message names `source`, the
  // tensor, and the byte of the file.
  void parse(std::string_view json, std::uint64_t file_bytes, std::uint32_t shard,
             const std::string& source, const CheckpointLimits& limits,
             std::vector<TensorInfo>& tensors);

 private:
  simdjson::ondemand::parser parser_;
  UniqueNames names_;  // of the header being read
};

// Parses one header as it stands in a file of `file_bytes` bytes and appends its tensors to
// `tensors`. `head` begins with the eight length bytes and holds the whole header. The fuzzer calls
// this function.
void parse_safetensors_header(std::string_view head, std::uint64_t file_bytes, std::uint32_t shard,
                              const std::string& source, const CheckpointLimits& limits,
                              std::vector<TensorInfo>& tensors);

}  // namespace berth
