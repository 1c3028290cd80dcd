// The state of the fake libnvidia-ml that the tests open: what it reports, and which calls fail.
#pragma once

#include <string>
#include <vector>

struct FakeGpu {
  std::string name = "NVIDIA H100 80GB HBM3";
  std::string uuid;
  std::string bus_id;
  unsigned long long total = 80ull << 30;
  unsigned long long free = 79ull << 30;
  unsigned generation = 5, lanes = 16;
  unsigned cores = 16896, clock = 1980;
  unsigned mig = 0;
  int numa_node = -1;                // of its memory; -1: it is no node
  int switch_links = 0;              // the first links go to a switch,
  std::vector<int> links;            // the next to these GPUs, by index,
  int dead_links = 0;                // and the last ones are down
  unsigned link_speed_mbps = 25000;  // 0: the driver does not say
};

struct FakeNvml {
  std::vector<FakeGpu> gpus;
  std::string fails;     // name of the function that returns `error`; "" for none
  int failing_gpu = -1;  // fails for this GPU only; -1 for all
  int error = 999;
  bool peers = false;  // PCIe peer access between all GPUs
  int claims = -1;     // how many GPUs it claims to have; -1: as many as it has
  int inits = 0, shutdowns = 0;
};

extern "C" FakeNvml* fake_nvml();
