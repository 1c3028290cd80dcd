// The tables of quantised weights while these are loaded. They are made when the first segment of a
// weight arrives, shared by the segments that arrive meanwhile, and freed after the last one. So
// they take a bounded share of memory, whatever the model's size. Safe for use from many threads.
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
  // `weights` are in the order of their segments. `share` is how many bytes all tables, and the
  // parts that they are made of, may take together; a weight that needs more waits until it is the
  // only one. `cancel` (may be null) ends every wait when it becomes true. `read` reads the parts.
  // All arguments must outlive the cache.
  TableCache(const Checkpoint& checkpoint, std::span<const PackedWeight> weights,
             std::span<const QuantScheme> schemes, std::uint64_t share,
             const std::atomic<bool>* cancel, ReadRange read);

  // The tables of a weight, for one of its segments. Waits until the share has space for them, and
  // until the tables of all weights before it have been asked for. Threads must begin segments in
  // order, and give back what they hold before they ask for more: then the first weight that is not
  // done can always go on, so no wait lasts forever. Throws Error where the tables cannot be made,
  // Interrupted when the load is cancelled, and after stop() the error that was given to it.
  std::shared_ptr<const WeightTables> acquire(std::uint32_t weight);
  // Says that a segment no longer needs the tables of its weight. Returns true for the last segment
  // of the weight; the tables are then gone from the cache.
  bool release(std::uint32_t weight);
  // What the zero points of the weights were whose tables were made so far.
  ZeroPointNotes zero_points();
  // For the way out of an error: all threads that wait in acquire() wake up and throw `error`.
  void stop(std::exception_ptr error);

 private:
  struct Entry {
    std::shared_ptr<const WeightTables> tables;
    std::uint32_t left = 0;  // segments of the weight that are not done
  };
  bool may_make(std::uint32_t weight) const;
  void note_zero_points(const PackedWeight& weight, const WeightTables& tables);

  const Checkpoint& checkpoint_;
  std::span<const PackedWeight> weights_;
  std::span<const QuantScheme> schemes_;
  std::uint64_t share_;
  const std::atomic<bool>* cancel_;
  ReadRange read_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Entry> entries_;
  std::uint64_t used_ = 0;  // sum of Dequantization::table_bytes over the tables that are there
  std::uint32_t next_ = 0;  // the next weight whose tables are made
  std::exception_ptr stopped_;
  ZeroPointNotes zero_points_;
};

}  // namespace berth
