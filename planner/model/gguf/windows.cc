#include "planner/model/gguf/windows.h"

#include <algorithm>
#include <iterator>

namespace berth {
namespace {

constexpr std::string_view kWindow = "attention.sliding_window";
constexpr std::string_view kPattern = "attention.sliding_window_pattern";

// Where an architecture has its windows, if the file does not say: load_hparams() of llama.cpp's
// llama-model.cpp, and set_swa_pattern().
struct WindowRule {
  std::string_view architecture;
  std::uint64_t period;          // of so many layers one attends to all: the last
  bool first_is_full = false;    // the first of them does instead
  std::uint64_t otherwise = 0;   // the window where the file gives none
  std::uint64_t only_depth = 0;  // the rule holds for models of so many layers alone
};
constexpr WindowRule kRules[] = {
    {"gemma2", 2, false, 4096},
    {"gemma3", 6},
    {"gemma3n", 5},
    {"cohere2", 4},
    {"olmo2", 4},
    {"gpt-oss", 2},
    {"exaone-moe", 4},
    {"plamo3", 8},
    {"afmoe", 4},
    {"smallthinker", 4, true},
    {"llama4", 4, false, 8192},
    {"exaone4", 4, false, 4096, 64},
};

const WindowRule* rule_of(std::string_view architecture, std::uint64_t layers) {
  const auto* const found = std::ranges::find(kRules, architecture, &WindowRule::architecture);
  if (found == std::end(kRules)) return nullptr;
  return found->only_depth == 0 || found->only_depth == layers ? found : nullptr;
}

std::vector<std::uint64_t> by_period(std::uint64_t layers, std::uint64_t window,
                                     std::uint64_t period, bool first_is_full) {
  std::vector<std::uint64_t> windows(layers, 0);
  for (std::uint64_t i = 0; i < layers; ++i) {
    const std::uint64_t full = first_is_full ? 0 : period - 1;
    if (period == 0 || i % period != full) windows[i] = window;
  }
  return windows;
}

}  // namespace

std::vector<std::uint64_t> gguf_windows(const GgufKeys& keys, std::string_view architecture,
                                        std::uint64_t layers, std::vector<std::string>& notes) {
  const std::vector<std::uint64_t> none(layers, 0);
  const WindowRule* const rule = rule_of(architecture, layers);
  const std::uint64_t window = keys.find(kWindow).value_or(rule == nullptr ? 0 : rule->otherwise);
  if (window == 0) return none;
  if (keys.header().is_list(keys.key(kPattern))) {
    std::vector<std::uint64_t> windows = keys.by_layer(kPattern, layers);
    for (std::uint64_t& of_layer : windows) of_layer = of_layer == 0 ? 0 : window;
    return windows;
  }
  if (const auto period = keys.find(kPattern)) {
    return by_period(layers, window, *period, rule != nullptr && rule->first_is_full);
  }
  if (rule != nullptr) return by_period(layers, window, rule->period, rule->first_is_full);
  notes.push_back(keys.key(kWindow) + " is " + std::to_string(window) +
                  ", but nothing says which layers have the window: planned as if none had, which "
                  "is the most that they can keep");
  return none;
}

}  // namespace berth
