// Whether pieces fit into the space of devices in any order at all, as a problem of numbers alone:
// items of few kinds, many of each, go into bins. It is what the contiguous pipeline (pipeline.h)
// cannot answer: layers of a device need not stand one after another.
//
// Equal items are interchangeable, so an answer is how many of each kind every bin holds. The
// search goes from bin to bin, the preferred ones first. Of what a bin may hold it looks at
// *maximal* fillings alone, to which no further item could be added: to put more into a bin leaves
// less for the bins to come, so that nothing is lost. If every kind takes at least as long in later
// bins, the same holds for the sum of times, and the answer is the one with the least sum. What was
// left over after the same bins before is not looked at again. For many layers of a few kinds that
// are some hundred steps.
//
// Items on a disk also take space where they run. Their sizes there are added for each size of the
// largest buffer in turn; the runner and the disks come last, so that it is known by then what
// those two share.
//
// Times are whole numbers of nanoseconds, held in doubles (pipeline.h). All functions are pure.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "berth/model.h"

namespace berth {

// Items that are alike. Bytes of each of them.
struct PackKind {
  std::uint32_t count = 0;
  std::uint64_t weights = 0;
  std::uint64_t stays = 0;       // beside the weights: buffers that are computed
  std::uint64_t runs = 0;        // KV cache and logits: they are where the item runs
  std::uint64_t activation = 0;  // workspace where it runs; of all items the largest counts
  std::uint64_t buffer = 0;      // of one of the two buffers through which it is read from a disk
  int half = 0;  // 1: a core whose experts are another item; -1: experts; 0: the item is whole
  std::vector<double> time;  // by bin, ns

  bool operator==(const PackKind&) const = default;
};

struct PackBin {
  std::uint64_t space = 0;         // bytes for all of an item
  std::uint64_t weight_space = 0;  // bytes for weights alone
  // What is there already: bytes in all, those of weights, and the largest activation.
  std::uint64_t held = 0;
  std::uint64_t held_weights = 0;
  std::uint64_t activation = 0;
  bool disk = false;  // items run on Packing::runner
  double time = 0;    // ns of what is there already
};

struct Packing {
  std::vector<PackKind> kinds;
  std::vector<PackBin> bins;     // in order of preference
  std::uint32_t runner = kNone;  // the bin on which items of disks run
  std::uint64_t buffer = 0;      // the largest buffer that the runner's `held` has already
  double hop = 0;                // ns for each bin that is used beyond the first, at the least
  double apart = 0;              // ns for each core that has no experts in its bin
  // Neither may a bin take longer than this, nor all together; ns.
  double most_time = std::numeric_limits<double>::infinity();
  double most_total = std::numeric_limits<double>::infinity();
};

struct Packed {
  std::vector<std::vector<std::uint32_t>> counts;  // [bin][kind]; empty: nothing was found
  double time = 0;                                 // ns, hops at their least included
  // Some that take nearly as little time. As hops are known only once items have an order, one of
  // these may be the best.
  std::vector<std::vector<std::vector<std::uint32_t>>> others;
  bool complete = true;  // false: the search stopped at its limit, and may have missed a better one

  bool found() const { return !counts.empty(); }
};

// What pack() looks for: any answer, or the one with the least time.
enum class PackGoal { kAny, kLeastTime };

// Packs all items. `steps`: how much work it may do, about 20 ns each; what the search takes is
// taken off. Given the same input it gives the same answer.
Packed pack(const Packing& packing, PackGoal goal, std::uint64_t& steps);

}  // namespace berth
