#include "runtime/convert/output_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/output_file.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// How many files are kept open: well below the number that a process may have open.
constexpr std::size_t kMostOpen = 256;

std::string reason(int error) { return std::strerror(error); }

// The folder that holds `path`; "." for a bare name.
fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Brings names that were made or changed in a folder to the disk. Returns 0 or errno.
int sync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return errno;
  return ::fsync(fd.get()) == 0 || errno == EINVAL ? 0 : errno;
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& path) : path_(without_slash(path)) {
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(path_, ignored))) {
    throw Error(path_.string() +
                ": exists already, and nothing is written over: remove it or "
                "name another folder");
  }
  make_temporary();
  try {
    marker_.emplace(temporary_);
  } catch (...) {
    std::error_code unimportant;
    fs::remove_all(temporary_, unimportant);
    throw;
  }
}

// Not by mkdtemp(): that makes folders that only their owner can use, and the usual permissions of
// a new folder cannot be asked for without changing them for other threads.
void OutputFolder::make_temporary() {
  for (;;) {
    const std::string name = temporary_name(unfinished_stem(path_));
    if (::mkdir(name.c_str(), 0777) == 0) {
      unfinished_.emplace(name);
      temporary_ = name;
      return;
    }
    if (errno != EEXIST) {
      throw Error(path_.string() + ": cannot make a folder beside it: " + reason(errno));
    }
  }
}

OutputFolder::~OutputFolder() {
  if (temporary_.empty()) return;
  files_.clear();
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void OutputFolder::fail(const std::string& name, const char* doing, int error) const {
  throw Error((path_ / name).string() + ": " + doing + ": " + reason(error));
}

void OutputFolder::require_space(std::uint64_t bytes) const {
  struct statvfs info {};
  if (::statvfs(temporary_.c_str(), &info) != 0) return;  // not known: if too little, writes fail
  const std::uint64_t free = std::uint64_t{info.f_bavail} * info.f_frsize;
  if (free >= bytes) return;
  throw Error(path_.string() + ": " + std::to_string(bytes) + " bytes are to be written and " +
              std::to_string(free) + " are free there, " + std::to_string(bytes - free) +
              " too few");
}

std::size_t OutputFolder::create(const std::string& name, std::uint64_t bytes) {
  const fs::path file = temporary_ / name;
  if (const int error = marker_->add(name); error != 0) fail(name, "cannot be made", error);
  Descriptor fd(::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (fd.get() < 0) fail(name, "cannot be made", errno);
  bool reserved = true;
  if (bytes > 0 && ::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno != EOPNOTSUPP && errno != ENOSYS) fail(name, "cannot reserve space for it", errno);
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) fail(name, "cannot grow", errno);
    reserved = false;
  }
  if (files_.size() >= kMostOpen) fd = Descriptor();
  files_.push_back({name, std::move(fd), reserved});
  return files_.size() - 1;
}

OutputMapping::~OutputMapping() { ::munmap(data_, bytes_); }

std::unique_ptr<OutputMapping> OutputFolder::map(std::size_t file, std::uint64_t bytes) const {
  const File& wanted = files_[file];
  // Where no space is reserved and the disk is full, writing to the mapping would raise a signal
  // instead of an error.
  if (!wanted.reserved) fail(wanted.name, "cannot reserve space for it", EOPNOTSUPP);
  const Descriptor fd(::open((temporary_ / wanted.name).c_str(), O_RDWR | O_CLOEXEC));
  if (fd.get() < 0) fail(wanted.name, "cannot be opened again", errno);
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) fail(wanted.name, "cannot be mapped", errno);
  return std::make_unique<OutputMapping>(static_cast<std::byte*>(data), bytes);
}

Descriptor OutputFolder::reopen(const std::string& name) const {
  Descriptor fd(::open((temporary_ / name).c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) fail(name, "cannot be opened again", errno);
  return fd;
}

void OutputFolder::write(std::size_t file, std::uint64_t offset, const std::byte* data,
                         std::uint64_t bytes) {
  Descriptor opened;
  int fd = files_[file].fd.get();
  if (fd < 0) {
    opened = reopen(files_[file].name);
    fd = opened.get();
  }
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t wrote =
        ::pwrite(fd, data + done, bytes - done, static_cast<off_t>(offset + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) fail(files_[file].name, "cannot write", wrote < 0 ? errno : EIO);
    done += static_cast<std::uint64_t>(wrote);
  }
  // Starts writing to the disk while more is read; otherwise all of it would be left to commit().
  ::sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                    SYNC_FILE_RANGE_WRITE);
}

void OutputFolder::write(std::size_t file, std::uint64_t offset, std::string_view text) {
  write(file, offset, reinterpret_cast<const std::byte*>(text.data()), text.size());
}

void OutputFolder::copy(const fs::path& from, const std::string& name) {
  const berth::File in(from);
  const std::size_t file = create(name, 0);
  std::array<char, 64u << 10> buffer;
  for (std::uint64_t at = 0; at < in.size();) {
    const std::uint64_t count = std::min<std::uint64_t>(buffer.size(), in.size() - at);
    in.read_exactly(at, buffer.data(), count);
    write(file, at, {buffer.data(), count});
    at += count;
  }
}

void OutputFolder::commit(const std::atomic<bool>* cancel) {
  for (File& file : files_) {
    if (cancel != nullptr && *cancel) throw Interrupted();
    if (file.fd.get() < 0) file.fd = reopen(file.name);
    const Descriptor fd = std::move(file.fd);  // closed here
    if (::fsync(fd.get()) != 0) fail(file.name, "cannot write it to the disk", errno);
  }
  files_.clear();
  if (const int error = sync_folder(temporary_); error != 0) fail("", "cannot sync", error);
  // A plain rename() would replace an empty folder, but nothing that others made may be replaced.
  int error = ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE)
                  ? errno
                  : 0;
  if (error == EINVAL || error == ENOSYS) {  // the file system cannot do that: look, then rename
    std::error_code ignored;
    error = fs::exists(fs::symlink_status(path_, ignored))     ? EEXIST
            : ::rename(temporary_.c_str(), path_.c_str()) != 0 ? errno
                                                               : 0;
  }
  if (error != 0)
    throw Error(path_.string() +
                ": the finished folder cannot be renamed to this: " + reason(error));
  temporary_.clear();
  unfinished_.reset();
  marker_->remove();
  if ((error = sync_folder(parent_of(path_))) != 0) {
    throw Error(path_.string() +
                ": all is written, but the folder may lose this name if the machine fails now: " +
                reason(error));
  }
}

}  // namespace berth
