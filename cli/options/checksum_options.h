// The flags of `berth checksum`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "berth/checkpoint.h"
#include "berth/load.h"

namespace CLI {
class App;
}

namespace berth {

struct ChecksumOptions {
  std::filesystem::path model;
  std::optional<std::filesystem::path> out;  // default: checksum_file()
  std::optional<IoEngine> io;
  std::optional<std::uint64_t> staging;
};

// Where checksums stand if nobody says otherwise: in the model's folder, or beside its only file.
// Those of a GGUF file, which may be named by its folder or by any of its parts, are beside its
// first part always.
std::filesystem::path checksum_file(const std::filesystem::path& model,
                                    const Checkpoint& checkpoint);

// Adds the subcommand; `options` must outlive the parsing.
CLI::App* add_checksum_command(CLI::App& app, ChecksumOptions& options);

}  // namespace berth
