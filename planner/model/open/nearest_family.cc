#include "planner/model/open/nearest_family.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>
#include <vector>

#include "berth/configs.h"
#include "planner/model/template/architecture.h"

namespace berth {
namespace {

// The letters that two names begin with alike, as a share of the longer one; what differs only
// behind digits or an underscore ("qwen4", "qwen3_moe") is alike in its front.
double alike(std::string_view a, std::string_view b) {
  const auto [x, y] = std::ranges::mismatch(a, b);
  const auto same = static_cast<double>(x - a.begin());
  return same / static_cast<double>(std::max(a.size(), b.size()));
}

// The share of the family's own keys that the config has, and of the config's that the family has.
double keys_alike(const std::vector<std::string>& keys, const Architecture& family) {
  std::size_t both = 0;
  for (const auto& [key, unused] : family.defaults) {
    if (std::ranges::binary_search(keys, key)) ++both;
  }
  const std::size_t either = keys.size() + family.defaults.size() - both;
  return either == 0 ? 0 : static_cast<double>(both) / static_cast<double>(either);
}

}  // namespace

std::string nearest_family(const ModelConfig& config) {
  namespace fs = std::filesystem;
  constexpr double kNear = 0.2;
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(find_config_dir() / "architectures", error)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() == ".yaml" && name.find('+') == name.npos) names.push_back(name);
  }
  std::ranges::sort(names);
  std::vector<std::string> keys = config.keys("");
  std::ranges::sort(keys);
  std::string best;
  double most = kNear;
  for (const std::string& name : names) {
    const auto family = find_architecture(name);
    if (!family) continue;
    const double near = alike(config.model_type(), name) + keys_alike(keys, *family);
    if (near <= most) continue;
    most = near;
    best = name;
  }
  return best;
}

}  // namespace berth
