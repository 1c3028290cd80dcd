// Which layers of a GGUF model attend to a window alone. Internal to planner/model/gguf.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "planner/model/gguf/keys.h"

namespace berth {

// By layer: the positions of its window or chunk; 0: all positions. Follows the file's
// sliding_window_pattern; where there is none, what llama.cpp has for the architecture. A window of
// which neither says where it is goes into no layer, which keeps too much rather than too little,
// and into `notes`. Throws Error, naming the key, for a pattern that is not for `layers` layers.
std::vector<std::uint64_t> gguf_windows(const GgufKeys& keys, std::string_view architecture,
                                        std::uint64_t layers, std::vector<std::string>& notes);

}  // namespace berth
