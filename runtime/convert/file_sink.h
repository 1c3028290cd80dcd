// The files that a conversion writes, as memory that a schedule can name: they stand there one
// after another, and a sink writes to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "runtime/convert/output_folder.h"
#include "runtime/load/device_sink.h"

namespace berth {

// One file of the output. Its bytes after `head` are tensors.
struct OutputFile {
  std::string name;
  std::string head;  // how it begins
  std::uint64_t bytes = 0;
  std::uint64_t base = 0;  // offset of its first byte in that memory
  std::size_t file = 0;    // the number that OutputFolder::create() gave it
};

// How many converted bytes a thread holds before it writes them: few enough to stay in its cache.
inline constexpr std::uint64_t kConvertScratch = 256u << 10;

// The sink that writes to the output files. CopyJob::to counts as OutputFile::base does. Bytes in
// another order or in tiles come in no order, so they are written through a mapping of the file.
class FileSink final : public DeviceSink {
 public:
  // `files` are in the order of their bases. Both arguments must outlive the sink.
  FileSink(OutputFolder& folder, std::span<const OutputFile> files)
      : folder_(folder), files_(files) {}

  std::byte* memory() const override { return nullptr; }
  std::shared_ptr<void> memory_owner() const override { return nullptr; }
  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override;
  bool done(std::uint32_t) override { return true; }
  void wait(std::uint32_t) override {}
  void finish() override {}
  void drain() noexcept override {}

 private:
  void write_converted(const CopyJob& job, std::size_t file, std::uint64_t offset,
                       std::byte* scratch);
  std::byte* mapped(const OutputFile& file);

  OutputFolder& folder_;
  std::span<const OutputFile> files_;
  std::mutex mutex_;  // guards what follows
  std::map<std::size_t, std::unique_ptr<OutputMapping>> mappings_;
};

}  // namespace berth
