// Tables of quantised weights, made when the first segment of a weight arrives, shared by all that
// arrive meanwhile, and gone after the last: so they take a bounded share of memory, whatever the
// model's size. Safe for use from many threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/quant/weight_tables.h"

namespace berth {

class TableCache {
 public:
  // `weights` in the order of their segments. `share`: bytes that tables and what they are made of
  // may take together; a weight that needs more waits until it is alone. `cancel` (may be null)
  // ends every wait. All must outlive the cache.
  TableCache(const Checkpoint& checkpoint, std::span<const PackedWeight> weights,
             std::span<const QuantScheme> schemes, std::uint64_t share,
             const std::atomic<bool>* cancel, ReadRange read);

  // The tables of a weight; waits for room, and until those of all weights before it were asked
  // for. Threads must start on segments in order, and give back what they hold before they ask for
  // more: then the first weight that is not done can always go on, and no wait is forever. Throws
  // Error where the tables cannot be made, and after stop() what that was given.
  std::shared_ptr<const WeightTables> acquire(std::uint32_t weight);
  // After a segment is done with them; true where it was the last of the weight.
  bool release(std::uint32_t weight);
  // Wakes all that wait, on the way out of an error: theirs is the same one.
  void stop(std::exception_ptr error);

 private:
  struct Entry {
    std::shared_ptr<const WeightTables> tables;
    std::uint32_t left = 0;  // segments
  };
  bool may_make(std::uint32_t weight) const;

  const Checkpoint& checkpoint_;
  std::span<const PackedWeight> weights_;
  std::span<const QuantScheme> schemes_;
  std::uint64_t share_;
  const std::atomic<bool>* cancel_;
  ReadRange read_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Entry> entries_;
  std::uint64_t used_ = 0;  // bytes, as planned
  std::uint32_t next_ = 0;  // the next weight whose tables are made
  std::exception_ptr stopped_;
};

}  // namespace berth
