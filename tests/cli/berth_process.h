// Runs the built `berth` and keeps its exit code and output; also makes models to run it on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cli/temporary_folder.h"

namespace berth::testing {

struct Answer {
  int exit_code = 0;  // 128 + signal if a signal ended it
  std::string out;
  std::string talk;
};

Answer berth(const std::vector<std::string>& arguments, const std::string& input = {});
// The same, where no file may grow beyond `bytes`, those with the answer included.
Answer berth_within(std::uint64_t bytes, const std::vector<std::string>& arguments);

// A safetensors file of one header and as many zero bytes as `data_bytes`.
std::string safetensors(const std::string& header, std::size_t data_bytes);

// Writes a runnable llama of two tiny layers (config.json, model.safetensors) into `name`.
std::filesystem::path tiny_llama(const TemporaryFolder& folder, const std::string& name);

// What tiny_llama() writes, for tests that break one of its files.
std::string tiny_config();
std::string tiny_header();
std::size_t tiny_data_bytes();

// A machine file with one GPU of `gpu` and a CPU of `cpu`.
std::filesystem::path machine_file(const TemporaryFolder& folder, const std::string& gpu,
                                   const std::string& cpu);

}  // namespace berth::testing
