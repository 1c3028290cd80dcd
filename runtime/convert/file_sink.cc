#include "runtime/convert/file_sink.h"

#include <algorithm>
#include <iterator>

namespace berth {

void FileSink::copy(std::span<const CopyJob> jobs, std::uint32_t) {
  std::unique_ptr<std::byte[]> scratch;
  for (const CopyJob& job : jobs) {
    const auto file = std::prev(std::upper_bound(
        files_.begin(), files_.end(), job.to,
        [](std::uint64_t at, const OutputFile& other) { return at < other.base; }));
    const std::uint64_t offset = job.to - file->base;
    if (job.reorders() || job.matrix != nullptr) {
      copy_on_host(job, mapped(*file) + offset);
      continue;
    }
    if (job.stored == job.dtype) {
      folder_.write(file->file, offset, job.from, job.bytes);
      continue;
    }
    if (!scratch) scratch = std::make_unique_for_overwrite<std::byte[]>(kConvertScratch);
    write_converted(job, file->file, offset, scratch.get());
  }
}

void FileSink::write_converted(const CopyJob& job, std::size_t file, std::uint64_t offset,
                               std::byte* scratch) {
  // A step is of whole elements or blocks, and so is the job.
  const std::uint64_t from_width = dtype_block(job.stored).bytes;
  const std::uint64_t to_width = converted_bytes(from_width, job.stored, job.dtype);
  const std::uint64_t step = kConvertScratch / std::max(from_width, to_width) * from_width;
  for (std::uint64_t at = 0; at < job.bytes; at += step) {
    CopyJob step_job = job;
    step_job.from += at;
    step_job.bytes = std::min(step, job.bytes - at);
    copy_on_host(step_job, scratch);
    folder_.write(file, offset + at / from_width * to_width, scratch,
                  step_job.bytes / from_width * to_width);
  }
}

std::byte* FileSink::mapped(const OutputFile& file) {
  const std::scoped_lock lock(mutex_);
  std::unique_ptr<OutputMapping>& mapping = mappings_[file.file];
  if (!mapping) mapping = folder_.map(file.file, file.bytes);
  return mapping->data();
}

}  // namespace berth
