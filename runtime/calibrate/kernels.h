// Measures how fast the kernels that run models compute here (runtime/kernels), format by format.
//
// Products are measured as a run makes them: activations are made ready, then multiplied with
// matrices of KernelOptions::width, so many of them that none is still in a cache when its turn
// comes again. Weights lie where they do in a run by default: those of plain formats in a mapped
// file, others in private memory. Attention is measured over caches of bfloat16 in the same way.
// Figures are medians of several passes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "berth/machine.h"

namespace berth {

struct KernelOptions {
  double seconds = 15;        // to spend
  std::uint64_t weights = 0;  // bytes of weights that a pass reads: about four times all caches
  std::size_t threads = 0;    // that compute; 0: one for each processor
  // Rows and columns of a matrix: as in a model of 1 billion parameters. A multiple of 256.
  // Products with matrices of a quarter of it tell what each takes beside its weights, those of
  // four times as many columns what wide ones take.
  std::size_t width = 2048;
  // Where a file is made that weights of plain formats are mapped from, as a load does it by
  // default; empty: they are in anonymous memory, as are all others.
  std::filesystem::path folder;
  const std::atomic<bool>* cancel = nullptr;
};

struct KernelFigures {
  KernelRates rates;
  std::map<std::string, double, std::less<>> flops;  // FLOP/s of kPromptRows positions, by format
  std::string instructions;                          // the instruction set that was chosen
  std::size_t threads = 0;                           // that computed
  std::vector<std::string> notes;

  /// How many positions at once are measured. The last stands for prompts.
  static constexpr unsigned kRows[] = {1, 4, 8, 512};
  static constexpr unsigned kPromptRows = 512;
};

// Throws Error where there is too little memory to measure with, and Interrupted when cancelled.
KernelFigures measure_kernels(const KernelOptions& options);

}  // namespace berth
