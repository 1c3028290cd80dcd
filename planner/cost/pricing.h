// The price of a whole placement: one walk along the chain for the prompt and one for a token.
//
// Every unit runs where its first piece stands (its home; for the disk, runs_on()); the activation
// hops from unit to unit, and to and from pieces that stand elsewhere. A block's pieces in host RAM
// are computed there, or streamed: copied to a GPU piece by piece and run there, through two
// buffers, so that a copy goes on while the GPU computes what comes before it. Blocks whose home is
// the host stream to one GPU; experts aside stream to their block's own. A copy starts when the
// link and a buffer are free; of a mixture of experts it is known only after the router which ones
// a token needs, so those copies wait for their unit. Nothing is copied ahead of the walk's
// beginning.
//
// Streaming needs buffers on the GPU and is used where they have space and it is quicker, for the
// prompt and for the tokens apart. Interleaving blocks that stream with blocks that stand on the
// GPU hides copies behind computing: the walk sees it.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

struct Piece {
  std::uint32_t device = kNone;  // index into Machine::devices
  Share share;
};

// By unit: its pieces, the home first; a unit without tensors has none.
struct PlacedUnits {
  std::vector<std::uint32_t> begin{0};  // unit u has pieces [begin[u], begin[u + 1])
  std::vector<Piece> pieces;

  void end_unit() { begin.push_back(static_cast<std::uint32_t>(pieces.size())); }
};

// The placed of tensors placed one by one; the home is where the unit's anchor stands.
PlacedUnits placed_units(const Chain& chain, const std::vector<std::uint32_t>& tensor_device);

struct Streaming {
  bool prompt = false;
  bool token = false;
  std::uint32_t gpu = kNone;  // for blocks whose home is the host; kNone where there are none

  bool any() const { return prompt || token; }
};

class Pricing {
 public:
  Pricing(const Machine& machine, const Chain& chain, const TimeModel& time,
          const std::vector<bool>& usable);

  struct Priced {
    Seconds seconds;
    double score = 0;
    Streaming streaming;
    StreamBuffers buffers;  // empty where nothing streams
  };

  Seconds price(const PlacedUnits& placed, const Streaming& streaming) const;
  // With the streaming that gives the best score. `spare`: bytes still free on each device;
  // `activation`: workspace for activations that is there already. Ties: less streaming.
  Priced best(const PlacedUnits& placed, const std::vector<std::uint64_t>& spare,
              const std::vector<std::uint64_t>& activation) const;
  // The same price with its parts named; zero where the model's facts are unknown.
  Estimate estimate(const PlacedUnits& placed, const Streaming& streaming) const;
  StreamBuffers buffers(const PlacedUnits& placed, const Streaming& streaming) const;

 private:
  class Walk;
  bool streams(const Unit& unit, const Piece& home, const Piece& piece,
               const Streaming& streaming) const;

  const Machine& machine_;
  const Chain& chain_;
  const TimeModel& time_;
  const std::vector<bool>& usable_;
  std::vector<std::uint32_t> kind_;  // by unit: the first of the neighbours that cost the same
};

}  // namespace berth
