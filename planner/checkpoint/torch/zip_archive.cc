#include "planner/checkpoint/torch/zip_archive.h"

#include <algorithm>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::uint64_t kMostDirectory = 64u << 20;  // bytes: about 500,000 entries
constexpr std::uint64_t kMostName = 4096;

constexpr std::uint32_t kLocalMark = 0x04034b50;
constexpr std::uint32_t kEntryMark = 0x02014b50;
constexpr std::uint32_t kEndMark = 0x06054b50;
constexpr std::uint32_t kEnd64Mark = 0x06064b50;
constexpr std::uint32_t kLocator64Mark = 0x07064b50;

constexpr std::uint64_t kLocalBytes = 30;
constexpr std::uint64_t kEntryBytes = 46;
constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint64_t kEnd64Bytes = 56;
constexpr std::uint64_t kLocator64Bytes = 20;
constexpr std::uint64_t kMostComment = 65535;

constexpr std::uint16_t kEncrypted = 1u << 0;
// The local header leaves the sizes to a descriptor behind the data.
constexpr std::uint16_t kSizesFollow = 1u << 3;
constexpr std::uint32_t kIn64 = 0xffffffff;  // the value is in the ZIP64 field instead

// Little-endian fields at fixed offsets of a record that is known to be long enough.
std::uint64_t field(std::string_view record, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width; ++i) {
    value |= std::uint64_t{static_cast<unsigned char>(record[at + i])} << (8 * i);
  }
  return value;
}
std::uint16_t u16(std::string_view record, std::size_t at) {
  return static_cast<std::uint16_t>(field(record, at, 2));
}
std::uint32_t u32(std::string_view record, std::size_t at) {
  return static_cast<std::uint32_t>(field(record, at, 4));
}
std::uint64_t u64(std::string_view record, std::size_t at) { return field(record, at, 8); }

std::string read_text(const ByteSource& file, std::uint64_t offset, std::uint64_t count) {
  std::string text(count, '\0');
  file.read(offset, text.data(), count);
  return text;
}

// Reads the values that the directory leaves to the ZIP64 extra field (APPNOTE 4.5.3), in their
// order. Returns false if the field is missing or too short.
bool read_extra64(std::string_view extra, std::uint64_t& unpacked, std::uint64_t& bytes,
                  std::uint64_t& header) {
  std::vector<std::uint64_t*> wanted;
  for (std::uint64_t* value : {&unpacked, &bytes, &header}) {
    if (*value == kIn64) wanted.push_back(value);
  }
  while (!wanted.empty() && extra.size() >= 4) {
    const std::size_t length = u16(extra, 2);
    if (length > extra.size() - 4) return false;
    if (u16(extra, 0) == 1) {
      if (length < 8 * wanted.size()) return false;
      for (std::size_t i = 0; i < wanted.size(); ++i) *wanted[i] = u64(extra, 4 + 8 * i);
      return true;
    }
    extra.remove_prefix(4 + length);
  }
  return wanted.empty();
}

}  // namespace

ZipArchive::ZipArchive(const ByteSource& file) : file_(file), by_name_(0) {
  read_end();
  read_directory();
}

void ZipArchive::fail(std::uint64_t offset, const std::string& what) const {
  throw Error(file_.name + ": " + what + " (byte " + std::to_string(offset) + ")");
}

void ZipArchive::fail_entry(const ZipEntry& entry, const std::string& what) const {
  fail(entry.header, "zip entry " + quote(entry.name) + ": " + what);
}

// The record stands at the very end of the file, unless a comment follows it; normally there is
// none.
void ZipArchive::read_end() {
  if (file_.size < kEndBytes) fail(0, "the zip archive is truncated");
  std::uint64_t at = file_.size - kEndBytes;
  std::string tail = read_text(file_, at, kEndBytes);
  std::size_t found = u32(tail, 0) == kEndMark && u16(tail, 20) == 0 ? 0 : tail.npos;
  if (found == tail.npos) {
    at = file_.size - std::min(file_.size, kEndBytes + kMostComment);
    tail = read_text(file_, at, file_.size - at);
    for (std::size_t i = tail.size() - kEndBytes + 1; i-- > 0;) {
      if (u32(tail, i) != kEndMark || i + kEndBytes + u16(tail, i + 20) != tail.size()) continue;
      found = i;
      break;
    }
    if (found == tail.npos) {
      fail(file_.size, "the zip archive is truncated: its directory, which ends it, is missing");
    }
  }
  const std::string_view end = std::string_view(tail).substr(found, kEndBytes);
  at += found;
  if (u16(end, 4) != u16(end, 6)) fail(at, "the zip archive is split over several files");
  count_ = u16(end, 10);
  directory_bytes_ = u32(end, 12);
  directory_at_ = u32(end, 16);

  std::uint64_t limit = at;
  if (at >= kLocator64Bytes) {
    const std::string locator = read_text(file_, at - kLocator64Bytes, kLocator64Bytes);
    if (u32(locator, 0) == kLocator64Mark) {
      limit = u64(locator, 8);
      if (limit > at - kLocator64Bytes || at - kLocator64Bytes - limit < kEnd64Bytes) {
        fail(at - kLocator64Bytes, "the zip archive's ZIP64 record is said to be at byte " +
                                       std::to_string(limit) + ", where it cannot be");
      }
      read_end64(limit);
    }
  }
  if (directory_at_ > limit || directory_bytes_ > limit - directory_at_) {
    fail(at, "the zip directory is said to have " + std::to_string(directory_bytes_) +
                 " bytes at byte " + std::to_string(directory_at_) + ", past its own end");
  }
  if (directory_bytes_ > kMostDirectory) {
    fail(at, "the zip directory has " + std::to_string(directory_bytes_) + " bytes, the limit is " +
                 std::to_string(kMostDirectory));
  }
  if (count_ > directory_bytes_ / kEntryBytes) {
    fail(at, "the zip directory is said to have " + std::to_string(count_) + " entries in " +
                 std::to_string(directory_bytes_) + " bytes");
  }
}

void ZipArchive::read_end64(std::uint64_t at) {
  const std::string record = read_text(file_, at, kEnd64Bytes);
  if (u32(record, 0) != kEnd64Mark) fail(at, "the zip archive's ZIP64 record is damaged");
  count_ = u64(record, 32);
  directory_bytes_ = u64(record, 40);
  directory_at_ = u64(record, 48);
}

void ZipArchive::read_directory() {
  directory_ = read_text(file_, directory_at_, directory_bytes_);
  entries_.reserve(count_);
  by_name_ = NameTable(count_);
  const auto name_of = [this](std::uint32_t i) { return entries_[i].name; };
  std::string_view rest = directory_;
  for (std::uint64_t i = 0; i < count_; ++i) {
    const std::uint64_t at = directory_at_ + (directory_.size() - rest.size());
    if (rest.size() < kEntryBytes || u32(rest, 0) != kEntryMark) {
      fail(at, "entry " + std::to_string(i) + " of the zip directory is damaged");
    }
    const std::size_t name = u16(rest, 28);
    const std::size_t extra = u16(rest, 30);
    const std::size_t comment = u16(rest, 32);
    if (rest.size() - kEntryBytes < name + extra + comment) {
      fail(at, "entry " + std::to_string(i) + " of the zip directory runs past its end");
    }
    ZipEntry entry{rest.substr(kEntryBytes, name),
                   u32(rest, 42),
                   u32(rest, 20),
                   u32(rest, 24),
                   u16(rest, 10),
                   u16(rest, 8)};
    if (name > kMostName) {
      fail(at, "the name of zip entry " + quote(entry.name) + " has " + std::to_string(name) +
                   " bytes, the limit is " + std::to_string(kMostName));
    }
    if (!read_extra64(rest.substr(kEntryBytes + name, extra), entry.unpacked, entry.bytes,
                      entry.header)) {
      fail(at, "zip entry " + quote(entry.name) + ": its ZIP64 field is missing or too short");
    }
    const auto number = static_cast<std::uint32_t>(entries_.size());
    if (by_name_.insert(entry.name, number, name_of) != NameTable::kAbsent) {
      fail(at, "zip entry " + quote(entry.name) + " appears twice");
    }
    entries_.push_back(entry);
    rest.remove_prefix(kEntryBytes + name + extra + comment);
  }
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  const std::uint32_t number =
      by_name_.find(name, [this](std::uint32_t i) { return entries_[i].name; });
  return number == NameTable::kAbsent ? nullptr : &entries_[number];
}

ByteRange ZipArchive::locate(const ZipEntry& entry) {
  if ((entry.flags & kEncrypted) != 0) fail_entry(entry, "is encrypted");
  if (entry.method != 0) {
    fail_entry(entry, "is compressed (method " + std::to_string(entry.method) +
                          "); only stored entries can be read in place: save it again with "
                          "torch.save");
  }
  if (entry.bytes != entry.unpacked) {
    fail_entry(entry, "is stored, but said to have " + std::to_string(entry.bytes) +
                          " bytes packed and " + std::to_string(entry.unpacked) + " unpacked");
  }
  // Data ends before the directory begins. This bounds every sum below, so none overflows.
  const std::uint64_t fixed = kLocalBytes + entry.name.size();
  if (entry.header > directory_at_ || directory_at_ - entry.header < fixed) {
    fail_entry(entry, "its header is said to be past the data");
  }
  const std::string local = read_text(file_, entry.header, fixed);
  if (u32(local, 0) != kLocalMark) fail_entry(entry, "there is no header where it should be");
  if (u16(local, 26) != entry.name.size() || local.substr(kLocalBytes) != entry.name) {
    fail_entry(entry, "its header has another name than the directory");
  }
  if (u16(local, 8) != entry.method || (u16(local, 6) & kEncrypted) != 0) {
    fail_entry(entry, "its header has another method than the directory");
  }
  const std::uint32_t packed = u32(local, 18);
  if ((u16(local, 6) & kSizesFollow) == 0 && packed != entry.bytes && packed != kIn64) {
    fail_entry(entry, "its header says " + std::to_string(packed) + " bytes, the directory " +
                          std::to_string(entry.bytes));
  }
  const std::uint64_t begin = entry.header + fixed + u16(local, 28);
  if (begin > directory_at_ || directory_at_ - begin < entry.bytes) {
    fail_entry(entry, "its " + std::to_string(entry.bytes) + " bytes run past the data");
  }
  const ByteRange range{begin, begin + entry.bytes};

  const auto inserted = located_.try_emplace(entry.header, range.end, &entry);
  const auto at = inserted.first;
  const bool is_new = inserted.second;
  const auto check = [&](const auto& first, const auto& second) {
    if (first->second.first <= second->first) return;
    const auto& other = first == at ? second : first;
    fail_entry(entry, "overlaps entry " + quote(other->second.second->name));
  };
  if (is_new && at != located_.begin()) check(std::prev(at), at);
  if (is_new && std::next(at) != located_.end()) check(at, std::next(at));
  if (!is_new && at->second.second != &entry) {
    fail_entry(entry, "overlaps entry " + quote(at->second.second->name));
  }
  return range;
}

}  // namespace berth
