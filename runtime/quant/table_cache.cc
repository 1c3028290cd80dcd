#include "runtime/quant/table_cache.h"

#include <chrono>
#include <utility>

#include "berth/error.h"

namespace berth {
namespace {

constexpr std::chrono::milliseconds kLook(50);  // between two looks at cancel_

}  // namespace

TableCache::TableCache(const Checkpoint& checkpoint, std::span<const PackedWeight> weights,
                       std::span<const QuantScheme> schemes, std::uint64_t share,
                       const std::atomic<bool>* cancel, ReadRange read)
    : checkpoint_(checkpoint),
      weights_(weights),
      schemes_(schemes),
      share_(share),
      cancel_(cancel),
      read_(std::move(read)),
      entries_(weights.size()) {
  for (std::size_t i = 0; i < weights.size(); ++i) entries_[i].left = weights[i].uses;
}

bool TableCache::may_make(std::uint32_t weight) const {
  return weight == next_ && (used_ == 0 || used_ + weights_[weight].made.table_bytes <= share_);
}

std::shared_ptr<const WeightTables> TableCache::acquire(std::uint32_t weight) {
  Entry& entry = entries_[weight];
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return stopped_ || entry.tables || may_make(weight); };
  while (!changed_.wait_for(lock, kLook, ready)) {
    if (cancel_ && cancel_->load()) throw Interrupted();
  }
  if (stopped_) std::rethrow_exception(stopped_);
  if (entry.tables) return entry.tables;
  ++next_;
  used_ += weights_[weight].made.table_bytes;
  lock.unlock();
  std::shared_ptr<const WeightTables> tables;
  try {
    const PackedWeight& packed = weights_[weight];
    tables =
        std::make_shared<WeightTables>(checkpoint_, packed, schemes_[packed.made.scheme], read_);
  } catch (...) {
    stop(std::current_exception());
    throw;
  }
  lock.lock();
  note_zero_points(weights_[weight], *tables);
  entry.tables = tables;
  lock.unlock();
  changed_.notify_all();
  return tables;
}

void TableCache::note_zero_points(const PackedWeight& weight, const WeightTables& tables) {
  const std::uint32_t zeros = weight.made.part(QuantRole::kZero);
  if (zeros >= checkpoint_.tensors.size()) return;
  zero_points_.add(schemes_[weight.made.scheme], tables.zero_points(),
                   checkpoint_.tensors[zeros].name);
}

ZeroPointNotes TableCache::zero_points() {
  const std::scoped_lock lock(mutex_);
  return zero_points_;
}

bool TableCache::release(std::uint32_t weight) {
  const std::scoped_lock lock(mutex_);
  Entry& entry = entries_[weight];
  if (--entry.left > 0) return false;
  entry.tables.reset();
  used_ -= weights_[weight].made.table_bytes;
  changed_.notify_all();
  return true;
}

void TableCache::stop(std::exception_ptr error) {
  {
    const std::scoped_lock lock(mutex_);
    if (!stopped_) stopped_ = std::move(error);
  }
  changed_.notify_all();
}

}  // namespace berth
