// Which memory is near a GPU: NUMA nodes, as sysfs tells of them. A machine with one node has no
// choice to make, and there nothing is done. Stateless; safe for use from many threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace berth {

// How many NUMA nodes this machine has: counts the entries nodeN of devices/system/node. 0 where
// sysfs does not say.
std::size_t numa_nodes(const std::filesystem::path& sysfs = "/sys");

// The node that the memory of a staging ring should come from, for the GPUs at these PCI addresses:
// the node that all of them share. -1 where it does not matter: the machine has one node, or the
// GPUs are on several, so that any memory is far from some of them.
int staging_node(const std::vector<std::string>& addresses,
                 const std::filesystem::path& sysfs = "/sys");

// What share of the pages of [data, data + bytes) that are resident stand on `node`, from samples
// that are spread over them: 0 to 1. Nothing where the kernel does not say.
std::optional<double> share_on_node(const void* data, std::uint64_t bytes, int node);

// Asks the kernel to take the pages of [data, data + bytes) from `node`, or from another node when
// that one is full. To be called before the first of these pages is touched. Returns false where
// the kernel refuses; the memory can be used all the same.
bool prefer_node(void* data, std::uint64_t bytes, int node);

}  // namespace berth
