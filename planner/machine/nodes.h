// NUMA nodes: which memory is near which processors, as sysfs tells of them.
//
// A machine with several sockets, or one that divides a socket (SNC, NPS), has a node for each part
// of its RAM, and each becomes a device. Some nodes have memory and no processors: CXL, persistent
// memory used as RAM, HBM beside DDR; these are host RAM that the nearest processors compute on.
// The memory of a GPU may be a node, too (GH200): that is the GPU's own, and no host RAM.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "berth/machine.h"
#include "planner/machine/cgroup.h"
#include "planner/machine/host.h"

namespace berth {

struct NumaNode {
  int id = 0;               // the kernel's number
  std::uint64_t total = 0;  // bytes of memory; 0 for a node of processors alone
  // Bytes that can be had there without swapping: free ones, pages of files and what the kernel can
  // give back.
  std::uint64_t available = 0;
  unsigned processors = 0;       // that the node has
  unsigned usable = 0;           // of them, those that this process may run on
  bool allowed = true;           // this process may take memory there (cpuset.mems)
  double read_bandwidth = 0;     // bytes/s, by the firmware's HMAT; 0 where it does not say
  std::map<int, int> distances;  // to each node, by number: 10 is near, 20 takes twice as long
};

// Reads sys/devices/system/node, and proc/self/status for what the process may use, below `root`.
// Sorted by number; empty where sysfs does not say. Never throws.
std::vector<NumaNode> read_nodes(const std::filesystem::path& root = "/");

// The node that a PCI device is attached to ("00000000:3B:00.0", in NVML's spelling or in that of
// sysfs); -1 where sysfs does not say.
int node_of_pci(const std::string& address, const std::filesystem::path& sysfs = "/sys");

// A GPU of the machine, and where it stands.
struct GpuNode {
  std::string name;         // of its device
  int near = -1;            // the node that it is attached to; -1 where unknown
  int own = -1;             // the node that its own memory is; -1: none, or the driver does not say
  std::uint64_t total = 0;  // bytes of its memory
  double bandwidth = 0;     // bytes/s of its link to the host; 0 where unknown
};

// The devices of host RAM and the links among them and to GPUs.
struct HostDevices {
  std::vector<Device> devices;  // "cpu", "cpu:1", ... in the order of the nodes, bare ones last
  std::vector<Link> links;      // none where there is one device: those of `cpu` are as always
  std::vector<std::string> notes;
};

// Divides host RAM by nodes. `memory` limits all of them together: what it leaves goes to the nodes
// in order, so that their capacities never add up to more; a node that gets nothing is no device.
// `cpu`: the whole machine's, whose speeds are divided by the processors of each node. On a machine
// with one node there is one device, `cpu`, with all of `memory` and of `cpu`.
// A bare node that is about as large as a GPU of which the driver does not say where its memory is
// is taken to be that memory: rather too little host RAM than too much.
// Links are priced by distance: memory of another node is read at its rate x 10 / distance, and a
// GPU's link to it is at most as fast.
HostDevices divide_host(const std::vector<NumaNode>& nodes, const HostLimits& memory,
                        const CpuReport& cpu, const std::vector<GpuNode>& gpus);

}  // namespace berth
