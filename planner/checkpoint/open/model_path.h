// What a command line means by MODEL: a file or a folder, one snapshot of a Hugging Face cache
// folder, or one state dict of a PyTorch file.
//
//   PATH                 as it stands. A cache folder (models--org--name) is its snapshot of
//   `main`,
//                        or the newest if there is none
//   CACHE@REVISION       the snapshot of a branch or tag, or of a commit by the start of its hash
//   FILE@NAME            the state dict called NAME in a PyTorch file; NAME/NAME for one in another
//
// A path that exists is never taken apart, whatever characters it has. Looks at names only.
#pragma once

#include <filesystem>
#include <string>

namespace berth {

struct ModelPath {
  std::filesystem::path path;  // of the file or folder to open; it may be absent
  std::string part;            // the state dict meant; empty: the only one
  std::string note;            // which snapshot was chosen, where there are several
};

// Throws Error for a cache folder without the snapshot that is asked for, and for an '@' behind
// something that has no parts.
ModelPath resolve_model(const std::filesystem::path& model);

// What people call the model of a folder: "org/name" for a cache folder and its snapshots, else the
// folder's own name.
std::string folder_name(const std::filesystem::path& folder);

}  // namespace berth
