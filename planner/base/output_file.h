// Writing results: whole files or none, and stdout with its errors looked at.
#pragma once

#include <filesystem>
#include <string_view>

namespace berth {

// Writes `content` to `file`, through a temporary file beside it that is renamed when complete: a
// failure leaves what was there before. Pipes and devices are written to as they are. Throws Error.
void write_file(const std::filesystem::path& file, std::string_view content);

// Writes to stdout and flushes. Throws Error when the receiver is gone or full.
void write_stdout(std::string_view text);

}  // namespace berth
