// The price of a whole placement, in seconds: one walk along the chain for the prompt and one for a
// token.
//
// A unit runs where its first piece stands, its home (what stands on the disk runs on
// TimeModel::runs_on()). The activation hops from the home of one unit to that of the next, and to
// pieces that stand elsewhere and back. A block's pieces in host RAM are either computed by the CPU
// or streamed: copied to a GPU piece by piece and run there, through two stream buffers, so that
// one piece is copied while the GPU computes what comes before it. Blocks whose home is the host
// all stream to one GPU; experts aside stream to the GPU that is their block's home. A copy starts
// as soon as the link and a buffer are free. Which experts a token needs is known only after the
// router has run, so copies of experts for a token also wait for their unit. At the start of a walk
// nothing is copied yet.
//
// Streaming needs space for its buffers on the GPU. It is used if there is that space and it is
// quicker, which is decided for the prompt and for the tokens separately. If blocks that stream
// alternate with blocks that stand on the GPU, copies hide behind computing; the walk takes that
// into account.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

// A piece of a unit, or any share of it that stands on one device.
struct Piece {
  std::uint32_t device = kNone;  // index into Machine::devices
  Share share;
};

// The pieces of every unit, the home first. A unit without tensors has none.
struct PlacedUnits {
  std::vector<std::uint32_t> begin{0};  // unit u has pieces [begin[u], begin[u + 1])
  std::vector<Piece> pieces;

  void end_unit() { begin.push_back(static_cast<std::uint32_t>(pieces.size())); }
};

// The units of a placement by tensor. A unit has one piece for each device that holds tensors of
// it; its home is the device of its anchor. Tensors on kNone are left out.
PlacedUnits placed_units(const Chain& chain, const std::vector<std::uint32_t>& tensor_device);

// What is streamed: in the walk of the prompt, in that of a token, or in both.
struct Streaming {
  bool prompt = false;
  bool token = false;
  std::uint32_t gpu = kNone;  // for blocks whose home is the host; kNone if there are none

  bool any() const { return prompt || token; }
};

// Prices placements of one chain on one machine. Keeps references to all that it is given. Const
// methods may be called by several threads.
class Pricing {
 public:
  Pricing(const Machine& machine, const Chain& chain, const TimeModel& time,
          const std::vector<bool>& usable);

  struct Priced {
    Seconds seconds;
    double score = 0;
    Streaming streaming;
    StreamBuffers buffers;  // empty if nothing streams
  };

  Seconds price(const PlacedUnits& placed, const Streaming& streaming) const;
  // The price with the streaming that gives the best score; of equals, with less streaming.
  // `spare`: bytes still free on each device. `activation`: bytes of workspace for activations
  // that each device has already; streaming shares it.
  Priced best(const PlacedUnits& placed, const std::vector<std::uint64_t>& spare,
              const std::vector<std::uint64_t>& activation) const;
  // The price as an estimate, which says what the time is spent on. All zero if the model's facts
  // are unknown.
  Estimate estimate(const PlacedUnits& placed, const Streaming& streaming) const;
  // The buffers that streaming this placement takes of each device.
  StreamBuffers buffers(const PlacedUnits& placed, const Streaming& streaming) const;

 private:
  class Walk;
  // Whether `piece`, of a unit whose home is `home`, is streamed rather than computed by the CPU.
  bool streams(const Unit& unit, const Piece& home, const Piece& piece,
               const Streaming& streaming) const;

  const Machine& machine_;
  const Chain& chain_;
  const TimeModel& time_;
  const std::vector<bool>& usable_;
  std::vector<std::uint32_t> kind_;  // by unit: the first of its run of units that cost the same
};

}  // namespace berth
