// What all conversions share: files are laid out before, and here they are made and filled. It is a
// load whose destination is a folder: the output files, one after another, are the memory of one
// device of the schedule, and a sink writes to them.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "berth/loader.h"
#include "runtime/convert/file_sink.h"

namespace berth {

// A tensor of the checkpoint, and where it is written.
struct WrittenTensor {
  std::string_view name;
  std::uint32_t source = 0;  // index into Checkpoint::tensors
  DType dtype = DType::kF32;
  std::uint64_t to = 0;  // OutputFile::base, and its offset in that file
};

struct FilesToWrite {
  std::vector<OutputFile> files;  // their bases and numbers are set by write_files()
  std::vector<WrittenTensor> tensors;
  std::vector<Companion> texts;  // of the files' own, such as an index: they count as written
  bool tile = false;             // matrices that kernels compute on in tiles get them
};

// Sets the base of each file. Throws Error if the sizes overflow.
void set_bases(std::vector<OutputFile>& files);

// Throws Error for options that no conversion can have.
void check_convert_options(const ConvertOptions& options);

// Writes the files, whose bases are set, and the companions to the new folder `out`. Throws as
// convert() does.
ConvertReport write_files(const Checkpoint& checkpoint, FilesToWrite wanted,
                          std::span<const Companion> companions, const std::filesystem::path& out,
                          const ConvertOptions& options);

}  // namespace berth
