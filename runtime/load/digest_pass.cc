#include "runtime/load/digest_pass.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "berth/error.h"
#include "runtime/io/memory.h"
#include "runtime/io/read_errors.h"
#include "runtime/load/sizing.h"

namespace berth {
namespace {

constexpr std::uint64_t kDigestBuffer = 256u << 10;  // that each thread reads through, in bytes

}  // namespace

std::size_t digest_threads(std::uint64_t staging) {
  return std::clamp<std::size_t>(staging / kDigestBuffer, 1, reading_threads());
}

void digest_one_by_one(const Checkpoint& checkpoint, std::span<const std::uint32_t> tensors,
                       const WrapReader& wrap, std::size_t threads, WorkControl& control,
                       const TensorDigests::Done& done) {
  for (const std::uint32_t tensor : tensors) {
    control.bytes_total += checkpoint.tensors[tensor].bytes();
  }
  run_workers(tensors.size(), threads, control, [&](std::size_t, std::size_t i) {
    const TensorInfo& info = checkpoint.tensors[tensors[i]];
    const Descriptor fd = open_shard(checkpoint.shards[info.shard]);
    std::unique_ptr<Reader> reader = make_pread_reader(fd.get());
    if (wrap) reader = wrap(std::move(reader), info.shard, IoEngine::kBuffered);
    const HostArena buffer(kDigestBuffer, "checksums");
    OrderedDigest digest;
    for (std::uint64_t at = info.begin; at < info.end;) {
      // One tensor may be as large as the whole file, so the workers' own look is not enough.
      if (control.cancel && control.cancel->load()) throw Interrupted();
      const std::uint64_t stop = std::min(info.end, at + kDigestBuffer);
      require_complete(checkpoint, info.shard, stop,
                       read_range(*reader, at, stop, buffer.data(), false));
      digest.add({buffer.data(), stop - at});
      control.bytes_done += stop - at;
      at = stop;
    }
    done(tensors[i], digest.finish());
  });
}

}  // namespace berth
