#include "runtime/convert/leftovers.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "runtime/io/file_facts.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarkerName = ".berth-unfinished";
constexpr std::string_view kFirstLine =
    "unfinished: the next `berth convert` to this place removes this folder and these files\n";
constexpr std::string_view kHost = "/host ";  // no file has such a name
constexpr std::size_t kRandomLetters = 6;
constexpr std::size_t kMostMarker = 64u << 20;  // bytes

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = EIO;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

// An entry of a folder that is what it seems: opened without following a link, and ours.
Descriptor open_own(int at, const char* name, int flags, mode_t kind) {
  Descriptor fd(::openat(at, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  const bool own = fd.get() >= 0 && ::fstat(fd.get(), &info) == 0 &&
                   (info.st_mode & S_IFMT) == kind && info.st_uid == ::geteuid();
  return own ? std::move(fd) : Descriptor();
}

std::optional<std::string> read_all(int fd) {
  std::string text;
  char block[4096];
  for (;;) {
    const ssize_t count = ::read(fd, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 || text.size() > kMostMarker) return std::nullopt;
    if (count == 0) return text;
    text.append(block, static_cast<std::size_t>(count));
  }
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

// An unfinished folder whose maker is gone.
struct Leftover {
  Descriptor folder;
  Descriptor marker;               // locked, so that nobody else takes it for left over
  std::string host;                // of its maker
  std::vector<std::string> files;  // that Berth made
};

std::optional<Leftover> find_leftover(const fs::path& path) {
  Leftover found;
  found.folder = open_own(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY, S_IFDIR);
  if (found.folder.get() < 0) return std::nullopt;
  found.marker = open_own(found.folder.get(), kMarkerName, O_RDWR, S_IFREG);
  if (found.marker.get() < 0 || ::flock(found.marker.get(), LOCK_EX | LOCK_NB) != 0) {
    return std::nullopt;
  }
  const std::optional<std::string> text = read_all(found.marker.get());
  if (!text || !text->starts_with(kFirstLine)) return std::nullopt;
  std::string_view rest = std::string_view(*text).substr(kFirstLine.size());
  // A last line without its end belongs to a file that was not made.
  for (std::size_t end = 0; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1)) {
    const std::string_view name = rest.substr(0, end);
    if (name.starts_with(kHost)) found.host = name.substr(kHost.size());
    if (!name.empty() && name.find('/') == name.npos) found.files.emplace_back(name);
  }
  std::ranges::sort(found.files);
  return found;
}

bool is_made(const Leftover& leftover, const std::string& name) {
  return name == kMarkerName || std::ranges::binary_search(leftover.files, name);
}

// The name of something in the folder that Berth did not make; empty where there is none.
std::string foreign_in(const fs::path& path, const Leftover& leftover) {
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    struct stat info {};
    if (!is_made(leftover, name) ||
        ::fstatat(leftover.folder.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(info.st_mode)) {
      return name;
    }
  }
  return error ? "what cannot be listed" : "";
}

// One sentence about what was done.
std::string clear(const fs::path& path, const Leftover& leftover) {
  const std::string folder = printable(path.string(), 4096);
  if (const std::string foreign = foreign_in(path, leftover); !foreign.empty()) {
    return folder +
           ": an unfinished conversion left this folder; it is not removed, because it "
           "holds " +
           quote(foreign) + ", which berth did not write";
  }
  // Locks may not reach from one host to another.
  if (file_system_of(path).network && leftover.host != host_name()) {
    return folder + ": an unfinished conversion left this folder; it is not removed, because it " +
           "was made on " + quote(leftover.host) + ", where berth may still run";
  }
  for (const std::string& name : leftover.files) ::unlinkat(leftover.folder.get(), name.c_str(), 0);
  ::unlinkat(leftover.folder.get(), kMarkerName, 0);
  if (::rmdir(path.c_str()) != 0) {
    return folder + ": an unfinished conversion left this folder, which cannot be removed: " +
           std::strerror(errno);
  }
  return folder + ": removed, because an unfinished conversion had left it";
}

}  // namespace

fs::path without_slash(fs::path path) {
  while (!path.has_filename() && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  return path;
}

std::string unfinished_stem(const fs::path& out) { return without_slash(out).string() + ".part-"; }

Marker::Marker(const fs::path& folder)
    : folder_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) {
  if (folder_.get() >= 0) {
    file_ = Descriptor(::openat(folder_.get(), kMarkerName,
                                O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  }
  // Locked before it says what it is: until then nobody takes the folder for left over.
  if (file_.get() >= 0) ::flock(file_.get(), LOCK_EX | LOCK_NB);
  const std::string text = std::string(kFirstLine) + std::string(kHost) + host_name() + "\n";
  if (file_.get() < 0 || !write_all(file_.get(), text)) {
    throw Error((folder / kMarkerName).string() + ": cannot be written: " + std::strerror(errno));
  }
}

int Marker::add(const std::string& name) { return write_all(file_.get(), name + '\n') ? 0 : errno; }

void Marker::remove() { ::unlinkat(folder_.get(), kMarkerName, 0); }

std::vector<std::string> clear_leftovers(const fs::path& out) {
  const fs::path stem = unfinished_stem(out);
  const fs::path parent = stem.has_parent_path() ? stem.parent_path() : fs::path(".");
  const std::string beginning = stem.filename().string();
  std::vector<fs::path> candidates;
  std::error_code error;
  for (fs::directory_iterator at(parent, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(beginning) && name.size() == beginning.size() + kRandomLetters) {
      candidates.push_back(stem.parent_path() / name);
    }
  }
  std::ranges::sort(candidates);
  std::vector<std::string> said;
  for (const fs::path& path : candidates) {
    if (const auto leftover = find_leftover(path)) said.push_back(clear(path, *leftover));
  }
  return said;
}

}  // namespace berth
