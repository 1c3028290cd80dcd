// Which memory is near a GPU. On a machine of one node there is nothing to do, and nothing is done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace berth {

// Memory nodes of this machine: entries nodeN of devices/system/node.
std::size_t numa_nodes(const std::filesystem::path& sysfs = "/sys");

// The node that a PCI device ("0000:3b:00.0", any case) hangs on; -1 where sysfs does not say.
int numa_node_of_pci(const std::string& address, const std::filesystem::path& sysfs = "/sys");

// The node whose memory a staging ring for these GPUs should be: that of all of them, on a machine
// of several nodes; else -1, no matter which. (A ring between nodes is far from some GPU anyhow.)
int staging_node(const std::vector<std::string>& addresses,
                 const std::filesystem::path& sysfs = "/sys");

// Asks the kernel to take pages of [data, data + bytes), none of which was touched, from `node`, or
// from elsewhere when it is full. False where it refuses.
bool prefer_node(void* data, std::uint64_t bytes, int node);

}  // namespace berth
