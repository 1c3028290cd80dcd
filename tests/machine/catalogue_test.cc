// The machines that come with Berth: every file is read strictly, and says of each device what can
// be checked against something else. The table of their README is theirs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "berth/machine.h"
#include "planner/machine/gpus.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

const std::string kBegin = "<!-- machines -->\n";
const std::string kEnd = "<!-- end -->\n";

fs::path folder() { return fs::path(BERTH_SOURCE_DIR) / "configs/hardware"; }

std::string content(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

// The names in the order in which people look for them: by what is there once, then by how often.
std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& entry : fs::directory_iterator(folder())) {
    if (entry.path().extension() == ".yaml") all.push_back(entry.path().stem().string());
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<Device> gpus(const Machine& machine) {
  std::vector<Device> all;
  for (const Device& device : machine.devices) {
    if (is_gpu(device.kind)) all.push_back(device);
  }
  return all;
}

// Whether GPU and CPU share one memory, which then is one device.
bool is_shared(const Machine& machine) { return machine.find("cpu") == nullptr; }

std::string figure(double value, double unit, const char* name) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g %s", value / unit, name);
  return text;
}

std::string row(const std::string& name, const Machine& machine) {
  const std::vector<Device> all = gpus(machine);
  std::vector<std::string> products, memory, bandwidth, flops;
  for (std::size_t i = 0; i < all.size();) {  // each run of equal GPUs once
    std::size_t next = i;
    while (next < all.size() && all[next].description == all[i].description) ++next;
    const std::string count = next - i > 1 ? std::to_string(next - i) + " x " : "";
    products.push_back(count + all[i].description);
    memory.push_back(count + format_size(all[i].capacity));
    bandwidth.push_back(figure(all[i].memory_bandwidth, 1e9, "GB/s"));
    flops.push_back(figure(all[i].flops, 1e12, "TFLOP/s"));
    i = next;
  }
  const auto joined = [](const std::vector<std::string>& words) {
    std::string out;
    for (const std::string& word : words) out += (out.empty() ? "" : " + ") + word;
    return out;
  };
  const Device* cpu = machine.find("cpu");
  std::string kind = all[0].kind == DeviceKind::kOther ? "other" : "cuda";
  const std::string host = cpu ? format_size(cpu->capacity)
                               : "shared, " + format_size(all[0].reserve) + " of it reserved";
  return "| `" + name + "` | " + joined(products) + " | " + kind + " | " + joined(memory) + " | " +
         joined(bandwidth) + " | " + joined(flops) + " | " + host + " |\n";
}

TEST(Catalogue, IsListedInItsReadme) {
  const fs::path file = folder() / "README.md";
  const std::string text = content(file);
  const std::size_t begin = text.find(kBegin);
  const std::size_t end = text.find(kEnd);
  ASSERT_TRUE(begin != std::string::npos && end != std::string::npos && begin < end);
  std::string table =
      "| name | GPUs | kind | memory | bandwidth of each | 16-bit rate of each | + host |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const std::string& name : names()) table += row(name, read_machine_file(name));
  const std::string right = text.substr(0, begin + kBegin.size()) + table + text.substr(end);
  if (std::getenv("BERTH_WRITE_HARDWARE_TABLE") != nullptr) {
    if (right != text) std::ofstream(file, std::ios::binary) << right;
    return;
  }
  EXPECT_EQ(text, right) << "write the table anew with docs/make_hardware";
}

class OfCatalogue : public ::testing::TestWithParam<std::string> {
 protected:
  Machine machine_ = read_machine_file(folder() / (GetParam() + ".yaml"));
};

TEST_P(OfCatalogue, HasAShortNameAndASource) {
  const std::string name = GetParam();
  EXPECT_LE(name.size(), 16u);
  EXPECT_TRUE(std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::islower(c) || std::isdigit(c) || c == '-';
  })) << name;
  const std::string text = content(folder() / (name + ".yaml"));
  const std::string head = text.substr(0, text.find("devices:"));
  EXPECT_EQ(head[0], '#') << "a comment says where the figures come from";
  EXPECT_TRUE(head.find("Source") != std::string::npos) << head;
}

// "8x..." has eight GPUs, and a name without a count has one. A mixed machine counts itself.
TEST_P(OfCatalogue, HasAsManyGpusAsItsNameSays) {
  const std::string name = GetParam();
  if (name.starts_with("mixed-")) return;
  std::size_t count = 1;
  if (name.size() > 2 && std::isdigit(static_cast<unsigned char>(name[0])) && name[1] == 'x') {
    count = static_cast<std::size_t>(name[0] - '0');
  }
  EXPECT_EQ(gpus(machine_).size(), count);
}

TEST_P(OfCatalogue, HasTheFiguresOfItsProduct) {
  for (const Device& gpu : gpus(machine_)) {
    const GpuFigures* known = find_gpu(gpu.description);
    ASSERT_NE(known, nullptr) << gpu.description;
    EXPECT_DOUBLE_EQ(gpu.memory_bandwidth, known->memory_bandwidth);
    EXPECT_DOUBLE_EQ(gpu.flops, known->flops);
  }
}

TEST_P(OfCatalogue, IsPlausible) {
  for (const Device& device : machine_.devices) {
    SCOPED_TRACE(device.name);
    EXPECT_LT(device.reserve, device.capacity / 2);
    if (is_gpu(device.kind)) {
      EXPECT_GE(device.capacity, 7ull << 30);
      EXPECT_LE(device.capacity, 513ull << 30);
      EXPECT_GE(device.memory_bandwidth, 200e9);
      EXPECT_LE(device.memory_bandwidth, 10e12);
      EXPECT_GE(device.flops, 15e12);
      EXPECT_LE(device.flops, 3e15) << "dense, not sparse";
      // Dense 16-bit products need from 20 to 500 operations a byte to keep their memory busy.
      EXPECT_GE(device.flops / device.memory_bandwidth, 20);
      EXPECT_LE(device.flops / device.memory_bandwidth, 500);
    } else if (device.kind == DeviceKind::kCpu) {
      EXPECT_GE(device.capacity, 16ull << 30);
      EXPECT_GE(device.memory_bandwidth, 30e9);
      EXPECT_LE(device.memory_bandwidth, 700e9);
      EXPECT_GT(device.flops, 0.1e12);
    } else {
      EXPECT_GE(device.capacity, 200'000'000'000u);
      EXPECT_EQ(device.flops, 0);
    }
  }
  EXPECT_NE(machine_.find("disk"), nullptr);
}

TEST_P(OfCatalogue, HasLinksBothWays) {
  const char* to = is_shared(machine_) ? "0" : "cpu";
  const Link* read = machine_.find_link("disk", to);
  ASSERT_NE(read, nullptr);
  EXPECT_DOUBLE_EQ(read->bandwidth, machine_.find("disk")->memory_bandwidth);
  const std::vector<Device> all = gpus(machine_);
  for (const Device& gpu : all) {
    if (!is_shared(machine_)) {
      EXPECT_NE(machine_.find_link("cpu", gpu.name), nullptr) << gpu.name;
      EXPECT_NE(machine_.find_link(gpu.name, "cpu"), nullptr) << gpu.name;
    }
    for (const Device& other : all) {
      const Link* there = machine_.find_link(gpu.name, other.name);
      const Link* back = machine_.find_link(other.name, gpu.name);
      ASSERT_EQ(there == nullptr, back == nullptr) << gpu.name << " and " << other.name;
      if (there != nullptr) {
        EXPECT_DOUBLE_EQ(there->bandwidth, back->bandwidth);
      }
    }
  }
  for (const Link& link : machine_.links) {
    EXPECT_LE(link.bandwidth, 1e12) << link.from << " to " << link.to;
    EXPECT_GT(link.latency, 0) << link.from << " to " << link.to;
  }
}

// Memory that GPU and CPU share is there once.
TEST_P(OfCatalogue, CountsSharedMemoryOnce) {
  if (!is_shared(machine_)) return;
  EXPECT_EQ(machine_.devices.size(), 2u);
  EXPECT_GE(gpus(machine_)[0].reserve, 4ull << 30) << "the operating system lives there, too";
}

std::string test_name(const ::testing::TestParamInfo<std::string>& machine) {
  std::string name = machine.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, OfCatalogue, ::testing::ValuesIn(names()), test_name);

TEST(Catalogue, HasWhatPeopleOwnAndRent) {
  const std::vector<std::string> all = names();
  for (const char* name :
       {"3060",      "3090",         "4060ti-16",  "4090",      "5090",  "a6000",
        "6000ada",   "pro6000",      "t4",         "a10g",      "v100",  "a100-40",
        "8xa100-80", "l4",           "l40s",       "h100-pcie", "h100",  "h100-nvl",
        "h200",      "8xh200",       "b200",       "8xb200",    "gh200", "mi300x",
        "8xmi300x",  "m3-ultra-512", "ai-max-395", "dgx-spark"}) {
    EXPECT_NE(std::find(all.begin(), all.end(), name), all.end()) << name;
  }
}

}  // namespace
}  // namespace berth
