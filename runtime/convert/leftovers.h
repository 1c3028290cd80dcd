// What a conversion leaves behind that was ended by SIGKILL or a power cut: an unfinished folder
// beside the one that it was to make. A marker in it says so, and the next conversion to the same
// place takes it away.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "planner/base/descriptor.h"

namespace berth {

// "out/" and "out" name the same folder: the latter.
std::filesystem::path without_slash(std::filesystem::path path);

// The beginning of the names of unfinished folders for `out`; six letters and digits follow.
std::string unfinished_stem(const std::filesystem::path& out);

// The file that marks a folder as unfinished, and lists the files that Berth has made in it. It is
// locked as long as its maker lives.
class Marker {
 public:
  // Marks `folder`. Throws Error where that cannot be done.
  explicit Marker(const std::filesystem::path& folder);
  // To be called before a file of this name is made. Returns 0 or errno.
  int add(const std::string& name);
  // The folder is finished, whatever its name is now.
  void remove();

 private:
  Descriptor folder_;
  Descriptor file_;
};

// Removes the folders that conversions to `out` left, and returns a sentence about each. Touches
// none whose maker still lives, that belongs to somebody else or has no marker. One that also holds
// files which Berth did not make is left as it is, and the sentence says so. Never throws for what
// it finds.
std::vector<std::string> clear_leftovers(const std::filesystem::path& out);

}  // namespace berth
