#include "planner/machine/gpus.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace berth {
namespace {

constexpr double kGB = 1e9;
constexpr double kTF = 1e12;

// Sources: NVIDIA's data sheets for data-centre and RTX professional cards (figures "with sparsity"
// halved), and the appendices of its Turing, Ampere GA102, Ada and Blackwell architecture papers
// for GeForce (FP16 tensor rate with FP32 accumulation, no sparsity). AMD's data sheets for
// Instinct. Neither NVIDIA for the GB10 nor Apple publish a 16-bit rate; configs/hardware says what
// theirs follows from. The first row whose words are all in the name wins: variants stand before
// the plain name.
constexpr GpuFigures kGpus[] = {
    {"GB300", 8000 * kGB, 2500 * kTF, 5},
    {"GB200", 8000 * kGB, 2500 * kTF, 5},
    {"B300", 8000 * kGB, 2250 * kTF, 5},
    {"B200", 8000 * kGB, 2250 * kTF, 5},
    {"GH200", 4000 * kGB, 989 * kTF, 5},
    {"H200 NVL", 4800 * kGB, 835 * kTF, 5},
    {"H200", 4800 * kGB, 989 * kTF, 5},
    {"H100 NVL", 3900 * kGB, 835 * kTF, 5},
    {"H100 PCIe", 2000 * kGB, 756 * kTF, 5},
    {"H100", 3350 * kGB, 989 * kTF, 5},
    {"H800 PCIe", 2000 * kGB, 756 * kTF, 5},
    {"H800", 3350 * kGB, 989 * kTF, 5},
    {"H20", 4000 * kGB, 148 * kTF, 5},
    {"A100 80GB PCIe", 1935 * kGB, 312 * kTF, 4},
    {"A100 80GB", 2039 * kGB, 312 * kTF, 4},
    {"A100", 1555 * kGB, 312 * kTF, 4},
    {"A800 80GB", 2039 * kGB, 312 * kTF, 4},
    {"A40", 696 * kGB, 149.7 * kTF, 4},
    {"A30", 933 * kGB, 165 * kTF, 4},
    {"A10G", 600 * kGB, 70 * kTF, 4},
    {"A10", 600 * kGB, 125 * kTF, 4},
    {"A2", 200 * kGB, 18 * kTF, 4},
    {"L40S", 864 * kGB, 362 * kTF, 4},
    {"L40", 864 * kGB, 181 * kTF, 4},
    {"L4", 300 * kGB, 121 * kTF, 4},
    {"T4", 320 * kGB, 65 * kTF, 3},
    {"V100S", 1134 * kGB, 130 * kTF, 3},
    {"V100 PCIE", 900 * kGB, 112 * kTF, 3},
    {"V100", 900 * kGB, 125 * kTF, 3},
    {"P100", 732 * kGB, 18.7 * kTF, 3},
    {"RTX PRO 6000 Blackwell", 1792 * kGB, 503.8 * kTF, 5},
    {"RTX 6000 Ada", 960 * kGB, 364.2 * kTF, 4},
    {"RTX 5000 Ada", 576 * kGB, 261.1 * kTF, 4},
    {"RTX A6000", 768 * kGB, 154.8 * kTF, 4},
    {"RTX A5000", 768 * kGB, 111.1 * kTF, 4},
    {"RTX A4000", 448 * kGB, 76.7 * kTF, 4},
    {"RTX 5090", 1792 * kGB, 209.5 * kTF, 5},
    {"RTX 5080", 960 * kGB, 112.6 * kTF, 5},
    {"RTX 5060 Ti", 448 * kGB, 47.4 * kTF, 5},
    {"RTX 5070 Ti", 896 * kGB, 87.9 * kTF, 5},
    {"RTX 5070", 672 * kGB, 61.7 * kTF, 5},
    {"RTX 4090", 1008 * kGB, 165.2 * kTF, 4},
    {"RTX 4080 SUPER", 736 * kGB, 104.4 * kTF, 4},
    {"RTX 4080", 717 * kGB, 97.5 * kTF, 4},
    {"RTX 4070 Ti SUPER", 672 * kGB, 88.2 * kTF, 4},
    {"RTX 4070 Ti", 504 * kGB, 80.2 * kTF, 4},
    {"RTX 4070 SUPER", 504 * kGB, 71.0 * kTF, 4},
    {"RTX 4070", 504 * kGB, 58.3 * kTF, 4},
    {"RTX 4060 Ti", 288 * kGB, 44.1 * kTF, 4},
    {"RTX 4060", 272 * kGB, 30.2 * kTF, 4},
    {"RTX 3090 Ti", 1008 * kGB, 80.0 * kTF, 4},
    {"RTX 3090", 936 * kGB, 71.2 * kTF, 4},
    {"RTX 3080 Ti", 912 * kGB, 68.2 * kTF, 4},
    {"RTX 3080", 760 * kGB, 59.5 * kTF, 4},
    {"RTX 3070", 448 * kGB, 40.6 * kTF, 4},
    {"RTX 3060 Ti", 448 * kGB, 32.4 * kTF, 4},
    {"RTX 3060", 360 * kGB, 25.5 * kTF, 4},
    {"RTX 2080 Ti", 616 * kGB, 53.8 * kTF, 3},
    {"GB10", 273 * kGB, 62.5 * kTF, 5},
    {"MI355X", 8000 * kGB, 2516.6 * kTF, 5},
    {"MI350X", 8000 * kGB, 2306.9 * kTF, 5},
    {"MI325X", 6000 * kGB, 1307.4 * kTF, 5},
    {"MI300X", 5300 * kGB, 1307.4 * kTF, 5},
    {"Radeon 8060S", 256 * kGB, 59.4 * kTF, 4},
    {"Apple M1 Ultra", 800 * kGB, 21.2 * kTF, 4},
    {"Apple M2 Ultra", 800 * kGB, 27.2 * kTF, 4},
    {"Apple M3 Ultra", 819 * kGB, 28.3 * kTF, 4},
    {"Apple M4 Max", 546 * kGB, 16.2 * kTF, 4},
};

constexpr std::string_view kBreaks = " -_/,()";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

// Calls `visit` for each word until it returns true. Returns whether it did.
template <class Visit>
bool any_word(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(kBreaks), text.size());
    if (end > 0 && visit(text.substr(0, end))) return true;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return false;
}

bool has_word(std::string_view text, std::string_view word) {
  return any_word(text, [&](std::string_view candidate) { return same_word(candidate, word); });
}

}  // namespace

const GpuFigures* find_gpu(std::string_view description) {
  // Mobile parts share a desktop part's name at about half its rates; MIG slices share a whole
  // GPU's. Neither is in the table.
  if (has_word(description, "Laptop") || has_word(description, "MIG")) return nullptr;
  const auto* row = std::find_if(std::begin(kGpus), std::end(kGpus), [&](const GpuFigures& gpu) {
    return !any_word(gpu.words,
                     [&](std::string_view word) { return !has_word(description, word); });
  });
  return row == std::end(kGpus) ? nullptr : row;
}

double pcie_bandwidth(int generation, int lanes) {
  // Bytes per second of one lane, after line coding.
  constexpr std::array<double, 6> kLane = {0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9};
  if (generation < 1 || generation > static_cast<int>(kLane.size()) || lanes < 1) return 0;
  return 0.8 * kLane[static_cast<std::size_t>(generation - 1)] * lanes;
}

}  // namespace berth
