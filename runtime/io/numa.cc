#include "runtime/io/numa.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

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
    nodes += name.size() > 4 && name.starts_with("node") &&
             std::all_of(name.begin() + 4, name.end(), [](char c) { return c >= '0' && c <= '9'; });
  }
  return nodes;
}

int numa_node_of_pci(const std::string& address, const std::filesystem::path& sysfs) {
  std::string name = address;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  int node = -1;
  std::ifstream file(sysfs / "bus/pci/devices" / name / "numa_node");
  return file >> node && node >= 0 ? node : -1;
}

int staging_node(const std::vector<std::string>& addresses, const std::filesystem::path& sysfs) {
  if (addresses.empty() || numa_nodes(sysfs) < 2) return -1;
  const int node = numa_node_of_pci(addresses[0], sysfs);
  const bool all = std::all_of(addresses.begin(), addresses.end(), [&](const std::string& address) {
    return numa_node_of_pci(address, sysfs) == node;
  });
  return all ? node : -1;
}

bool prefer_node(void* data, std::uint64_t bytes, int node) {
  constexpr std::size_t kBits = 8 * sizeof(unsigned long);
  std::array<unsigned long, kMostNodes / kBits> mask{};
  if (bytes == 0 || node < 0 || static_cast<std::size_t>(node) >= kMostNodes) return false;
  mask[static_cast<std::size_t>(node) / kBits] = 1ul << (static_cast<std::size_t>(node) % kBits);
  return syscall(SYS_mbind, data, bytes, kMpolPreferred, mask.data(), kMostNodes + 1, 0u) == 0;
}

}  // namespace berth
