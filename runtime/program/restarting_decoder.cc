#include "runtime/program/restarting_decoder.h"

#include "berth/error.h"

namespace berth {

void RestartingDecoder::restart(std::size_t sequence) {
  if (sequence < ids_.size()) ids_[sequence].clear();
  decoder_->restart(sequence);
}

std::span<const float> RestartingDecoder::forward(std::span<const Feed> feeds,
                                                  const OnLogits& all) {
  sent_.assign(feeds.begin(), feeds.end());
  for (Feed& feed : sent_) {
    if (feed.sequence >= ids_.size()) ids_.resize(feed.sequence + 1);
    std::vector<std::int64_t>& ids = ids_[feed.sequence];
    const std::size_t before = ids.size();
    ids.insert(ids.end(), feed.ids.begin(), feed.ids.end());
    if (before == 0 || before > length_ || ids.size() <= length_) continue;
    if (all) throw Error("internal error: a sequence restarts while all its logits are wanted");
    decoder_->restart(feed.sequence);
    feed.ids = ids;
  }
  return decoder_->forward(sent_, all);
}

}  // namespace berth
