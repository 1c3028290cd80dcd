// What a config.json says of single layers: which attend to everything, to a window or to a chunk,
// which keep a state of constant size instead, and which read the cache of an earlier one. All the
// keys of which some family makes use are read here; the tables in layer_keys.cc list them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "planner/model/tree/layer_kinds.h"
#include "planner/model/tree/text_keys.h"

namespace berth {

struct LayerSaid {
  LayerKind kind = LayerKind::kUnsaid;
  std::uint64_t window = 0;  // positions kept at most; 0: all of them
  bool shares = false;       // reads the cache of an earlier layer and keeps none
};

struct LayersSaid {
  std::vector<LayerSaid> layers;
  // What the keys leave open and how it was read, a sentence each. Wherever that could cost memory,
  // it was read as what takes more of it.
  std::vector<std::string> guesses;
};

// Reads the keys for a decoder of `count` layers. Throws Error as check_layer_keys() does.
LayersSaid read_layer_keys(const TextKeys& keys, std::size_t count);

// Throws Error "config.json: key: ..." for a config that contradicts itself, whatever its family: a
// list that has not one entry for each layer, the number of a layer that does not exist, a kind of
// layer or a letter of a pattern that is not known, an interval below 1, counts below 1, heads that
// do not divide. Keys that are absent or of another type are left to those who need them.
// `lists`: whether lists must have one entry for each layer, or count the layers themselves.
enum class LayerLists : bool { kChecked, kCount };
void check_layer_keys(const TextKeys& keys, LayerLists lists = LayerLists::kChecked);

}  // namespace berth
