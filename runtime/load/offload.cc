#include "runtime/load/offload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "berth/error.h"
#include "planner/base/output_file.h"
#include "runtime/io/file_facts.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kStep = 256u << 10;  // stored bytes that a thread converts at once

[[noreturn]] void fail(const fs::path& folder, const std::string& what) {
  throw Error("offload folder " + folder.string() + ": " + what +
              "; name another with --offload-folder, or keep the stored dtype with --dtype auto");
}

Descriptor open_nameless(const fs::path& folder) {
  Descriptor file = make_nameless_file(folder);
  if (file.get() < 0) fail(folder, std::string("cannot make a file: ") + std::strerror(errno));
  return file;
}

class OffloadSink final : public DeviceSink {
 public:
  explicit OffloadSink(std::shared_ptr<OffloadFile> file) : file_(std::move(file)) {}

  std::byte* memory() const override { return nullptr; }
  std::shared_ptr<void> memory_owner() const override { return file_; }

  void copy(std::span<const CopyJob> jobs, std::uint32_t) override {
    std::uint64_t most = 0;
    for (const CopyJob& job : jobs) {
      const std::uint64_t stored = std::min(kStep, job.bytes);
      most = std::max(most, converted_bytes(stored, job.stored, job.dtype));
    }
    const std::unique_ptr<std::byte[]> converted(new std::byte[most]);
    for (const CopyJob& job : jobs) write(job, converted.get());
  }
  bool done(std::uint32_t) override { return true; }
  void wait(std::uint32_t) override {}
  void finish() override {}
  void drain() noexcept override {}

 private:
  void write(const CopyJob& job, std::byte* converted) {
    const std::uint64_t step = kStep - kStep % dtype_block(job.stored).bytes;
    std::uint64_t to = job.to;
    for (std::uint64_t at = 0; at < job.bytes; at += step) {
      const std::uint64_t count = std::min(step, job.bytes - at);
      const std::uint64_t bytes = converted_bytes(count, job.stored, job.dtype);
      copy_on_host({job.from + at, count, 0, job.stored, job.dtype}, converted);
      file_->write(to, converted, bytes);
      to += bytes;
    }
  }

  std::shared_ptr<OffloadFile> file_;
};

}  // namespace

fs::path default_offload_folder() {
  const char* chosen = std::getenv("TMPDIR");
  for (const char* folder : {chosen, "/var/tmp", "/tmp"}) {
    if (!folder || !*folder || ::access(folder, W_OK) != 0) continue;
    if (!file_system_of(folder).memory) return folder;
  }
  return "/tmp";
}

OffloadFile::Folder::Folder(const fs::path& wanted) : path(wanted) {
  std::error_code error;
  made = fs::create_directory(path, error);
  if (error) fail(path, error.message());
}

OffloadFile::Folder::~Folder() {
  std::error_code ignored;
  if (made) fs::remove(path, ignored);  // only where it is empty
}

OffloadFile::OffloadFile(const fs::path& folder, std::uint64_t bytes,
                         const std::function<std::uint64_t(const fs::path&)>& free_space)
    : folder_(folder) {
  if (const std::uint64_t free = free_space(folder); bytes > free) {
    fail(folder, "the converted tensors of the disk tier need " + std::to_string(bytes) +
                     " bytes, " + std::to_string(free) + " are free");
  }
  fd_ = open_nameless(folder);
  // Space that is reserved now cannot run out half-way. Not every file system can reserve it.
  if (bytes > 0 && ::fallocate(fd_.get(), 0, 0, static_cast<off_t>(bytes)) != 0 &&
      errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
    fail(folder, "cannot reserve " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
  }
}

void OffloadFile::write(std::uint64_t offset, const std::byte* data, std::uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t count = ::pwrite(fd_.get(), data, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      fail(folder_.path, std::string("cannot write: ") + std::strerror(count < 0 ? errno : ENOSPC));
    }
    offset += static_cast<std::uint64_t>(count);
    data += count;
    bytes -= static_cast<std::uint64_t>(count);
  }
}

void OffloadFile::read(std::uint64_t offset, std::byte* data, std::uint64_t bytes) const {
  const std::unique_ptr<Reader> reader = make_pread_reader(fd_.get());
  const ReadOutcome outcome = read_range(*reader, offset, offset + bytes, data, false);
  if (outcome.reached == offset + bytes) return;
  fail(folder_.path,
       "cannot read back byte " + std::to_string(outcome.reached) + ": " +
           (outcome.error != 0 ? std::strerror(outcome.error) : "the file ends before it"));
}

std::unique_ptr<DeviceSink> make_offload_sink(std::shared_ptr<OffloadFile> file) {
  return std::make_unique<OffloadSink>(std::move(file));
}

}  // namespace berth
