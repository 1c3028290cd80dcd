#include "planner/checkpoint/open/model_path.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// How huggingface_hub names the folder of a model: models--org--name, with refs/ (a file for each
// branch and tag, which holds a commit) and snapshots/ (a folder for each commit).
constexpr std::string_view kCachePrefix = "models--";
constexpr std::string_view kMainRef = "main";
constexpr std::uint64_t kMostRef = 4096;  // bytes; a commit has 40

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_cache_folder(const fs::path& path) {
  return is_folder(path / "snapshots") && !is_file(path / "config.json");
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

// The commit that a branch or tag stands for; nothing if there is no such file.
std::optional<std::string> commit_of(const fs::path& cache, std::string_view ref) {
  const fs::path file = cache / "refs" / ref;
  if (ref.empty() || ref.find("..") != ref.npos || !is_file(file)) return std::nullopt;
  std::string commit = read_text_file(file, kMostRef);
  while (!commit.empty() && std::string_view(" \r\n\t").find(commit.back()) != std::string::npos) {
    commit.pop_back();
  }
  return commit;
}

class Cache {
 public:
  explicit Cache(fs::path folder)
      : folder_(std::move(folder)), snapshots_(names_in(folder_ / "snapshots")) {
    std::erase_if(snapshots_, [&](const std::string& name) { return !is_folder(path_of(name)); });
    if (snapshots_.empty()) {
      throw Error(folder_.string() +
                  ": a Hugging Face cache folder without a snapshot: nothing of the model was "
                  "downloaded, or the download was cut off; fetch it again");
    }
  }

  // The snapshot that transformers would open: that of `main`.
  ModelPath usual() const {
    const std::optional<std::string> main = commit_of(folder_, kMainRef);
    const bool known = main && has(*main);
    const std::string chosen = known ? *main : newest();
    ModelPath model{path_of(chosen), "", ""};
    if (snapshots_.size() > 1) {
      model.note = "of " + std::to_string(snapshots_.size()) + " snapshots, " + chosen +
                   (known ? " is opened, which is 'main'" : " is opened, the newest") +
                   "; MODEL@REVISION names another";
    }
    return model;
  }

  ModelPath named(const std::string& revision) const {
    if (const auto commit = commit_of(folder_, revision)) {
      if (has(*commit)) return {path_of(*commit), "", ""};
      throw Error(folder_.string() + ": the snapshot of " + quote(revision) + ", " +
                  quote(*commit) + ", is not in the cache: fetch it");
    }
    std::vector<std::string> matches;
    for (const std::string& name : snapshots_) {
      if (name.starts_with(revision)) matches.push_back(name);  // it is not empty
    }
    if (matches.size() == 1) return {path_of(matches[0]), "", ""};
    throw Error(folder_.string() + ": " + quote(revision) +
                (matches.empty() ? " is no revision in the cache" : " begins several commits") +
                " (there are " + choices() + ")");
  }

 private:
  fs::path path_of(const std::string& snapshot) const { return folder_ / "snapshots" / snapshot; }
  bool has(const std::string& snapshot) const {
    return std::ranges::find(snapshots_, snapshot) != snapshots_.end();
  }

  std::string newest() const {
    const auto time = [&](const std::string& name) {
      std::error_code ignored;
      return fs::last_write_time(path_of(name), ignored);
    };
    return *std::ranges::max_element(snapshots_, {}, time);
  }

  // The branches, tags and commits that could be named.
  std::string choices() const {
    std::vector<std::string> all = names_in(folder_ / "refs");
    std::erase_if(all, [&](const std::string& name) { return !is_file(folder_ / "refs" / name); });
    all.insert(all.end(), snapshots_.begin(), snapshots_.end());
    constexpr std::size_t kShown = 8;
    const std::size_t shown = std::min(all.size(), kShown);
    return join(std::span(all).first(shown), ", ", [](const auto& name) { return quote(name); }) +
           (all.size() > shown ? ", ..." : "");
  }

  fs::path folder_;
  std::vector<std::string> snapshots_;  // sorted
};

}  // namespace

ModelPath resolve_model(const fs::path& model) {
  std::error_code ignored;
  if (is_cache_folder(model)) return Cache(model).usual();
  if (fs::exists(fs::symlink_status(model, ignored))) return {model, "", ""};
  const std::string text = model.string();
  const std::size_t at = text.rfind('@');
  if (at == text.npos || at == 0 || at + 1 == text.size()) return {model, "", ""};
  const fs::path whole = text.substr(0, at);
  const std::string part = text.substr(at + 1);
  if (is_cache_folder(whole)) return Cache(whole).named(part);
  if (is_file(whole)) return {whole, part, ""};
  if (!is_folder(whole)) return {model, "", ""};
  throw Error(text + ": no such file or folder, and " + quote(whole.string()) +
              " is not a Hugging Face cache folder, so '@' names nothing in it");
}

std::string folder_name(const fs::path& folder) {
  std::error_code ignored;
  const fs::path named = folder.empty() ? fs::path(".") : folder;  // that of a bare config.json
  fs::path whole = fs::weakly_canonical(fs::absolute(named, ignored), ignored);
  if (whole.filename().empty()) whole = whole.parent_path();
  const fs::path above = whole.parent_path();
  std::string name = whole.filename().string();
  if (above.filename() == "snapshots") name = above.parent_path().filename().string();
  if (!name.starts_with(kCachePrefix)) return whole.filename().string();
  name.erase(0, kCachePrefix.size());
  if (const std::size_t bar = name.find("--"); bar != name.npos) name.replace(bar, 2, "/");
  return name;
}

}  // namespace berth
