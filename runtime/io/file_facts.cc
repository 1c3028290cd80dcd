#include "runtime/io/file_facts.h"

#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace berth {
namespace {

struct KnownFileSystem {
  std::uint64_t magic;
  const char* name;
  bool network;
  bool memory;
};

// Magic numbers of statfs(2). What is not listed counts as a local disk.
constexpr KnownFileSystem kKnown[] = {
    {0xEF53, "ext4", false, false},         {0x58465342, "xfs", false, false},
    {0x9123683E, "btrfs", false, false},    {0xF2F52010, "f2fs", false, false},
    {0x2FC12FC1, "zfs", false, false},      {0x794C7630, "overlayfs", false, false},
    {0x73717368, "squashfs", false, false}, {0x01021994, "tmpfs", false, true},
    {0x858458F6, "ramfs", false, true},     {0x958458F6, "hugetlbfs", false, true},
    {0x6969, "nfs", true, false},           {0xFF534D42, "cifs", true, false},
    {0xFE534D42, "smb", true, false},       {0x517B, "smb", true, false},
    {0x65735546, "fuse", true, false},      {0x0BD00BD0, "lustre", true, false},
    {0x01021997, "9p", true, false},        {0x00C36400, "ceph", true, false},
    {0x47504653, "gpfs", true, false},      {0x5346414F, "afs", true, false},
    {0x19830326, "beegfs", true, false},
};

constexpr long kCachestat = 451;  // the same on every architecture since Linux 6.5
struct CachestatRange {
  std::uint64_t offset;
  std::uint64_t bytes;
};
struct Cachestat {
  std::uint64_t cached, dirty, writeback, evicted, recently_evicted;  // pages
};

// Tries to read single bytes without waiting for the disk: where one cannot be had so, its page is
// not in the page cache.
std::optional<double> sampled_fraction(int fd, std::uint64_t offset, std::uint64_t bytes) {
  constexpr std::uint64_t kSamples = 8;
  unsigned present = 0;
  for (std::uint64_t i = 0; i < kSamples; ++i) {
    char byte;
    iovec target{&byte, 1};
    const auto at = static_cast<off_t>(offset + bytes / kSamples * i);
    if (preadv2(fd, &target, 1, at, RWF_NOWAIT) == 1) {
      ++present;
    } else if (errno != EAGAIN) {
      return std::nullopt;
    }
  }
  return static_cast<double>(present) / kSamples;
}

}  // namespace

std::uint64_t free_disk_space(const std::filesystem::path& folder) {
  struct statvfs facts {};
  if (statvfs(folder.c_str(), &facts) != 0) return 0;
  return static_cast<std::uint64_t>(facts.f_bavail) * facts.f_frsize;
}

FileSystemFacts file_system_of(const std::filesystem::path& file) {
  struct statfs facts {};
  if (statfs(file.c_str(), &facts) != 0) return {};
  const auto magic = static_cast<std::uint64_t>(static_cast<std::uint32_t>(facts.f_type));
  for (const KnownFileSystem& known : kKnown) {
    if (known.magic == magic) return {known.name, known.network, known.memory};
  }
  return {};
}

std::optional<double> resident_fraction(int fd, std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return 1.0;
  CachestatRange range{offset, bytes};
  Cachestat counts{};
  if (syscall(kCachestat, fd, &range, &counts, 0) != 0) return sampled_fraction(fd, offset, bytes);
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t pages = (offset + bytes + page - 1) / page - offset / page;
  return std::min(1.0, static_cast<double>(counts.cached) / static_cast<double>(pages));
}

std::optional<double> resident_estimate(int fd, std::uint64_t bytes) {
  constexpr std::uint64_t kStretches = 8;
  constexpr std::uint64_t kStretch = 1u << 20;
  if (bytes <= kStretches * kStretch) return resident_fraction(fd, 0, bytes);
  double sum = 0;
  for (std::uint64_t i = 0; i < kStretches; ++i) {
    const auto fraction = resident_fraction(fd, bytes / kStretches * i, kStretch);
    if (!fraction) return std::nullopt;
    sum += *fraction;
  }
  return sum / kStretches;
}

}  // namespace berth
