// Opening files of weights, and what their headers say.
#include "runtime/c/files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include "berth/configs.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/open/model_path.h"
#include "planner/model/open/formats.h"
#include "runtime/c/guard.h"

namespace berth {
namespace {

// Adds the files of `more`, whose tensors come behind those that are there.
void append(Checkpoint& all, Checkpoint more) {
  const auto shards = static_cast<std::uint32_t>(all.shards.size());
  const auto forms = static_cast<std::uint32_t>(all.forms.size());
  for (TensorInfo& tensor : more.tensors) {
    tensor.shard += shards;
    if (tensor.form != 0) tensor.form += forms;
    all.tensors.push_back(std::move(tensor));
  }
  std::ranges::move(more.shards, std::back_inserter(all.shards));
  std::ranges::move(more.forms, std::back_inserter(all.forms));
  std::ranges::move(more.notes, std::back_inserter(all.notes));
}

Checkpoint open_one(const char* path) {
  if (path == nullptr) throw BadArgument("berth_open: a path is NULL");
  if (*path == '\0') throw NoFile("'': the name of the file is empty");
  std::error_code ignored;
  if (!std::filesystem::exists(resolve_model(path).path, ignored)) {
    throw NoFile(std::string(path) + ": no such file or folder");
  }
  return open_stored(path);
}

void require_unique(const Checkpoint& checkpoint) {
  std::map<std::string_view, std::uint32_t> seen;
  for (std::uint32_t i = 0; i < checkpoint.tensors.size(); ++i) {
    const TensorInfo& tensor = checkpoint.tensors[i];
    const auto [at, is_new] = seen.emplace(tensor.name, i);
    if (is_new) continue;
    throw Error(checkpoint.shards[tensor.shard].path.string() + ": tensor " + quote(tensor.name) +
                " is also in " +
                checkpoint.shards[checkpoint.tensors[at->second].shard].path.string());
  }
}

}  // namespace
}  // namespace berth

using namespace berth;

berth_files::berth_files(Checkpoint opened) : checkpoint(std::move(opened)) {
  for (Shard& shard : checkpoint.shards) {
    // Files are opened again when tensors are loaded; the program may be in another folder by then.
    std::error_code error;
    const std::filesystem::path whole = std::filesystem::absolute(shard.path, error);
    if (!error) shard.path = whole;
    paths.push_back(shard.path.string());
  }
  first_of_shard.assign(checkpoint.shards.size() + 1, 0);
  std::size_t name_bytes = 0;
  std::size_t sizes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors) {
    ++first_of_shard[tensor.shard + 1];
    name_bytes += tensor.name.size() + 1;
    sizes += tensor.shape.size();
  }
  for (std::size_t i = 1; i < first_of_shard.size(); ++i)
    first_of_shard[i] += first_of_shard[i - 1];
  names.reserve(name_bytes);  // so that pointers into them stay
  shapes.reserve(sizes + 1);
  tensors.reserve(checkpoint.tensors.size());
  for (const TensorInfo& tensor : checkpoint.tensors) {
    const std::size_t name = names.size();
    names.append(tensor.name).push_back('\0');
    const std::size_t shape = shapes.size();
    shapes.insert(shapes.end(), tensor.shape.begin(), tensor.shape.end());
    tensors.push_back({names.data() + name, dtype_name(tensor.dtype).data(), shapes.data() + shape,
                       tensor.shape.size(), tensor.shard, tensor.begin, tensor.end,
                       tensor_bytes(tensor.dtype, tensor.shape).value_or(0), tensor.name.size()});
  }
  mappings_.resize(checkpoint.shards.size());
}

std::shared_ptr<TensorMemory> berth_files::mapping(std::uint32_t shard) const {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<TensorMemory>& mapping = mappings_[shard];
  if (!mapping) {
    const std::uint32_t first = first_of_shard[shard];
    mapping = map_copy_on_write(
        checkpoint.shards[shard],
        std::span(checkpoint.tensors).subspan(first, first_of_shard[shard + 1] - first));
  }
  return mapping;
}

uint32_t berth_c_version(void) { return BERTH_C_VERSION; }

const char* berth_version(void) { return BERTH_VERSION; }

void berth_set_configs(const char* folder) {
  guarded(nullptr, BERTH_ERROR, [&] { set_config_dir(folder == nullptr ? "" : folder); });
}

berth_status berth_open(const char* const* paths, size_t count, berth_files** files,
                        berth_error* error) {
  return guarded(error, BERTH_BROKEN_FILE, [&] {
    if (paths == nullptr || count == 0 || files == nullptr) {
      throw BadArgument("berth_open: it needs a path, and a place for the handle");
    }
    Checkpoint checkpoint = open_one(paths[0]);
    for (std::size_t i = 1; i < count; ++i) append(checkpoint, open_one(paths[i]));
    if (count > 1) require_unique(checkpoint);
    *files = new berth_files(std::move(checkpoint));
  });
}

void berth_close(berth_files* files) { delete files; }

const berth_tensor* berth_tensors(const berth_files* files, size_t* count) {
  if (count != nullptr) *count = files->tensors.size();
  return files->tensors.data();
}

const char* berth_file(const berth_files* files, size_t index) {
  return index < files->paths.size() ? files->paths[index].c_str() : nullptr;
}
