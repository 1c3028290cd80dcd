#include "runtime/io/numa.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "planner/base/digits.h"
#include "planner/machine/nodes.h"

namespace berth {
namespace {

constexpr long kMpolPreferred = 1;  // linux/mempolicy.h; the header is not always installed
constexpr std::size_t kMostNodes = 1024;

}  // namespace

std::size_t numa_nodes(const std::filesystem::path& sysfs) {
  std::error_code error;
  std::size_t nodes = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(sysfs / "devices/system/node", error)) {
    const std::string name = entry.path().filename();
    nodes += name.starts_with("node") && is_number(std::string_view(name).substr(4));
  }
  return nodes;
}

int staging_node(const std::vector<std::string>& addresses, const std::filesystem::path& sysfs) {
  if (addresses.empty() || numa_nodes(sysfs) < 2) return -1;
  const int node = node_of_pci(addresses[0], sysfs);
  const bool all = std::all_of(addresses.begin(), addresses.end(), [&](const std::string& address) {
    return node_of_pci(address, sysfs) == node;
  });
  return all ? node : -1;
}

std::optional<double> share_on_node(const void* data, std::uint64_t bytes, int node) {
  constexpr std::uint64_t kMostSamples = 1024;
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t samples = std::min(kMostSamples, bytes / page);
  if (samples == 0) return std::nullopt;
  std::vector<const void*> pages;
  for (std::uint64_t i = 0; i < samples; ++i)
    pages.push_back(static_cast<const std::byte*>(data) + bytes / samples * i / page * page);
  std::vector<int> status(samples, -1);
  if (syscall(SYS_move_pages, 0, samples, pages.data(), nullptr, status.data(), 0) != 0)
    return std::nullopt;
  const auto resident = std::count_if(status.begin(), status.end(), [](int at) { return at >= 0; });
  if (resident == 0) return std::nullopt;
  return static_cast<double>(std::count(status.begin(), status.end(), node)) /
         static_cast<double>(resident);
}

bool prefer_node(void* data, std::uint64_t bytes, int node) {
  constexpr std::size_t kBits = 8 * sizeof(unsigned long);
  std::array<unsigned long, kMostNodes / kBits> mask{};
  if (bytes == 0 || node < 0 || static_cast<std::size_t>(node) >= kMostNodes) return false;
  mask[static_cast<std::size_t>(node) / kBits] = 1ul << (static_cast<std::size_t>(node) % kBits);
  return syscall(SYS_mbind, data, bytes, kMpolPreferred, mask.data(), kMostNodes + 1, 0u) == 0;
}

}  // namespace berth
