// Calibration files: what is written can be read back, and which speeds replace which.
#include "planner/machine/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "berth/error.h"
#include "planner/base/yaml.h"
#include "planner/machine/machine_file.h"
#include "planner/machine/machine_writer.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Device device(const std::string& name, DeviceKind kind, const std::string& description) {
  Device made;
  made.name = name;
  made.kind = kind;
  made.capacity = made.total = 5'000'000'001;
  made.description = description;
  return made;
}

Device gpu(const std::string& name, const std::string& uuid) {
  Device made = device(name, DeviceKind::kCuda, "NVIDIA H200");
  made.uuid = uuid;
  return made;
}

// A machine with two GPUs, a CPU with four threads, and the disk of `folder`, all measured.
Machine measured_on(const fs::path& folder) {
  Machine machine;
  machine.source = "m.yaml";
  machine.calibrated = Calibrated{"2026-11-21", "node-7", "0.1.0", 4};
  machine.devices = {gpu("0", "GPU-aa"), gpu("1", "GPU-bb"),
                     device("cpu", DeviceKind::kCpu, "AMD EPYC"),
                     device("disk", DeviceKind::kDisk, folder.string())};
  machine.devices[0].memory_bandwidth = 4.1e12;
  machine.devices[1].memory_bandwidth = 4.2e12;
  machine.devices[2].memory_bandwidth = 21.34e9;
  machine.devices[2].flops = 0.5e12;
  machine.devices[2].matvec = {{"bfloat16", 12e9}, {"float32", 19e9}};
  machine.devices[2].kernels.products = {{"bfloat16", {{1, 20e9}, {8, 12e9}, {512, 0.5e9}}},
                                         {"q4_k", {{1, 18.5e9}}}};
  machine.devices[2].kernels.wide = {{"bfloat16", {{1, 17e9}}}};
  machine.devices[2].kernels.starts = {{"bfloat16", {{1, 3e-6}, {8, 12.5e-6}}}};
  machine.devices[2].kernels.attention = 7e9;
  machine.devices[2].kernels.prompt_attention = 90e9;
  machine.devices[2].kernels.layer = 31e-6;
  machine.devices[3].memory_bandwidth = 3.4e9;
  machine.links = {{"cpu", "0", 51e9, 9e-6},
                   {"0", "cpu", 52e9, 8e-6},
                   {"cpu", "1", 41e9, 7e-6},
                   {"0", "1", 300e9, 4e-6}};
  return machine;
}

// The same machine as probing sees it: its speeds are estimates, and its devices have other space.
Machine probed_like(const Machine& measured) {
  Machine machine = measured;
  machine.source = "this machine";
  machine.calibrated.reset();
  for (Device& one : machine.devices) {
    one.capacity = 77;
    one.memory_bandwidth = one.flops = 1;
    one.matvec.clear();
    one.kernels = {};
    one.probed = true;
  }
  machine.links = {{"cpu", "0", 2, 3}, {"1", "0", 5, 6}};
  return machine;
}

const Here kHere{"node-7", 4};

class Calibration : public ::testing::Test {
 protected:
  Calibration() {
    std::string pattern = (fs::temp_directory_path() / "berth_calibration_XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    for (const char* name : {"BERTH_MACHINE_FILE", "XDG_CONFIG_HOME", "HOME"}) {
      const char* value = std::getenv(name);
      before_.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
      unsetenv(name);
    }
  }
  ~Calibration() override {
    for (const auto& [name, value] : before_) {
      if (value)
        setenv(name, value->c_str(), 1);
      else
        unsetenv(name);
    }
    fs::remove_all(folder_);
  }

  fs::path write(const fs::path& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  Machine read_back(const Machine& machine) {
    return parse_machine(parse_yaml(write_machine(machine), "m.yaml"));
  }

  fs::path folder_;
  std::vector<std::pair<const char*, std::optional<std::string>>> before_;
};

TEST_F(Calibration, IsReadBackAsItWasWritten) {
  Machine machine = measured_on("/data/models");
  machine.devices[0].reserve = 12345;
  const Machine again = read_back(machine);
  ASSERT_EQ(again.devices.size(), 4u);
  EXPECT_DOUBLE_EQ(again.devices[2].kernels.starts.at("bfloat16").at(8), 12.5e-6);
  for (std::size_t i = 0; i < 4; ++i) {
    const Device &was = machine.devices[i], &is = again.devices[i];
    EXPECT_EQ(is.name, was.name);
    EXPECT_EQ(is.kind, was.kind);
    EXPECT_EQ(is.capacity, was.capacity) << "to the byte";
    EXPECT_EQ(is.reserve, was.reserve);
    EXPECT_EQ(is.memory_bandwidth, was.memory_bandwidth);
    EXPECT_EQ(is.flops, was.flops);
    EXPECT_EQ(is.matvec, was.matvec);
    EXPECT_EQ(is.kernels.products, was.kernels.products);
    EXPECT_EQ(is.kernels.wide, was.kernels.wide);
    EXPECT_EQ(is.kernels.starts.size(), was.kernels.starts.size());
    EXPECT_EQ(is.kernels.attention, was.kernels.attention);
    EXPECT_EQ(is.kernels.prompt_attention, was.kernels.prompt_attention);
    EXPECT_DOUBLE_EQ(is.kernels.layer, was.kernels.layer);
    EXPECT_EQ(is.description, was.description);
    EXPECT_EQ(is.uuid, was.uuid);
  }
  ASSERT_EQ(again.links.size(), 4u);
  EXPECT_EQ(again.links[3].to, "1");
  EXPECT_EQ(again.links[3].bandwidth, 300e9);
  EXPECT_DOUBLE_EQ(again.links[0].latency, 9e-6);
  ASSERT_TRUE(again.calibrated);
  EXPECT_EQ(again.calibrated->date, "2026-11-21");
  EXPECT_EQ(again.calibrated->host, "node-7");
  EXPECT_EQ(again.calibrated->berth, "0.1.0");
  EXPECT_EQ(again.calibrated->threads, 4u);
  EXPECT_EQ(write_machine(again), write_machine(machine)) << "and writes the same again";
}

TEST_F(Calibration, RoundsRatesToFourDigitsOfAnySize) {
  Machine machine;
  machine.devices = {device("cpu", DeviceKind::kCpu, "")};
  for (const double rate : {1.0, 999.4, 1234.5678, 9.9999e8, 5.5555e9, 8.0012e12, 3.3e15}) {
    machine.devices[0].memory_bandwidth = machine.devices[0].flops = rate;
    const Device again = read_back(machine).devices[0];
    EXPECT_NEAR(again.memory_bandwidth, rate, rate * 5.1e-4);
    EXPECT_NEAR(again.flops, rate, rate * 5.1e-4);
  }
}

TEST_F(Calibration, LeavesOutWhatWasNotMeasured) {
  Machine machine;
  machine.devices = {device("cpu", DeviceKind::kCpu, "")};
  machine.links = {{"cpu", "0", 0, 0}};
  const std::string text = write_machine(machine);
  EXPECT_THAT(text, AllOf(Not(HasSubstr("bandwidth")), Not(HasSubstr("flops")),
                          Not(HasSubstr("links")), Not(HasSubstr("calibrated"))));
  EXPECT_EQ(read_back(machine).devices[0].memory_bandwidth, 0);
}

TEST_F(Calibration, KeepsAnyTextWhole) {
  for (const std::string& text :
       {std::string("a \"quoted\" \\ name: {x, y} # no comment"), std::string("/päth/with ünï"),
        std::string("'single'"), std::string("yes"), std::string("1e3"), std::string(300, 'x')}) {
    Machine machine;
    machine.devices = {device("disk", DeviceKind::kDisk, text)};
    EXPECT_EQ(read_back(machine).devices[0].description, text);
  }
  Machine broken;
  broken.devices = {device("disk", DeviceKind::kDisk, "a\xff\n\x01z")};
  EXPECT_NO_THROW(read_back(broken)) << "a path need be no text at all";
}

TEST_F(Calibration, RefusesWhatIsWrongInItsKeys) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      parse_machine(parse_yaml(text, "m.yaml"));
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const std::string cpu = "devices:\n  - {name: cpu, capacity: 1GiB, ";
  EXPECT_THAT(refusal(cpu + "matvec: {bfloat61: 1GB/s}}\n"),
              AllOf(StartsWith("m.yaml:2: "), HasSubstr("did you mean 'bfloat16'?")));
  EXPECT_THAT(refusal(cpu + "matvec: {bfloat16: 1GB}}\n"), HasSubstr("try 1GB/s"));
  EXPECT_THAT(refusal(cpu + "matvec: {bfloat16: 0}}\n"), HasSubstr("too small"));
  EXPECT_THAT(refusal(cpu + "matvec: 5}\n"), StartsWith("m.yaml:2: "));
  EXPECT_THAT(refusal(cpu + "uuid: GPU-1}\n"), HasSubstr("only GPUs have one"));
  EXPECT_THAT(refusal("devices: [{name: disk, capacity: 1GB, matvec: {float32: 1GB/s}}]\n"),
              HasSubstr("computes nothing"));
  const std::string kernels = cpu + "kernels: ";
  EXPECT_THAT(refusal(kernels + "{product: {}}}\n"), HasSubstr("did you mean 'products'?"));
  EXPECT_THAT(refusal(kernels + "{products: {bfloat61: {1: 1GB/s}}}}\n"),
              AllOf(StartsWith("m.yaml:2: "), HasSubstr("did you mean 'bfloat16'?")));
  for (const char* positions : {"0", "-1", "1.5", "01", "many", "2000000"}) {
    EXPECT_THAT(refusal(kernels + "{products: {q4_k: {" + positions + ": 1GB/s}}}}\n"),
                HasSubstr("is no number of positions (a whole number from 1 to 1048576)"))
        << positions;
  }
  EXPECT_THAT(refusal(kernels + "{products: {q4_k: {}}}}\n"),
              HasSubstr("needs a number of positions"));
  EXPECT_THAT(refusal(kernels + "{starts: {q4_k: {1: 1GB/s}}}}\n"), StartsWith("m.yaml:2: "));
  EXPECT_THAT(refusal(kernels + "{products: {q4_k: {1: 1TFLOP/s}}}}\n"), HasSubstr("1TFLOP/s"));
  EXPECT_THAT(refusal(kernels + "{attention: 0}}\n"), HasSubstr("too small"));
  EXPECT_THAT(refusal(kernels + "{layer: 5}}\n"), HasSubstr("a unit is missing"));
  EXPECT_THAT(refusal("devices: [{name: disk, capacity: 1GB, kernels: {layer: 1us}}]\n"),
              HasSubstr("only a CPU has them"));
  EXPECT_EQ(refusal(kernels + "{products: {q4_k: {1: 1GB/s}}, layer: 1us}}\n"), "accepted");
  const std::string good = "devices: [{name: cpu, capacity: 1GiB}]\n";
  EXPECT_THAT(refusal(good + "calibrated: {threads: 0}\n"), HasSubstr("at least 1"));
  EXPECT_THAT(refusal(good + "calibrated: {thread: 2}\n"), HasSubstr("did you mean 'threads'?"));
  EXPECT_EQ(refusal(good + "calibrated: {date: 2026-11-21}\n"), "accepted");
}

TEST_F(Calibration, ReplacesSpeedsAndNothingElseOfTheSameMachine) {
  const Machine measured = measured_on(folder_);
  Machine machine = probed_like(measured);
  EXPECT_EQ(apply_calibration(measured, kHere, machine),
            "speeds measured by berth calibrate on 2026-11-21");
  EXPECT_EQ(machine.find("0")->memory_bandwidth, 4.1e12);
  EXPECT_EQ(machine.find("0")->flops, 1) << "was not measured";
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 21.34e9);
  EXPECT_EQ(machine.find("cpu")->flops, 0.5e12);
  EXPECT_EQ(machine.find("cpu")->matvec.at("float32"), 19e9);
  EXPECT_EQ(machine.find("cpu")->kernels, measured.find("cpu")->kernels);
  EXPECT_EQ(machine.find("disk")->memory_bandwidth, 3.4e9);
  for (const Device& one : machine.devices) EXPECT_EQ(one.capacity, 77u) << "what is free now";
  EXPECT_EQ(machine.find_link("cpu", "0")->bandwidth, 51e9) << "in the place of an estimate";
  EXPECT_EQ(machine.find_link("cpu", "0")->latency, 9e-6);
  EXPECT_EQ(machine.find_link("0", "1")->bandwidth, 300e9) << "added";
  EXPECT_EQ(machine.find_link("1", "0")->bandwidth, 5) << "was not measured";
  EXPECT_EQ(machine.links.size(), 5u) << "none twice";
}

TEST_F(Calibration, KnowsAGpuByItsUuidUnderAnyOrdinal) {
  const Machine measured = measured_on(folder_);
  Machine machine = probed_like(measured);
  machine.devices.erase(machine.devices.begin());  // as with CUDA_VISIBLE_DEVICES=1
  machine.devices[0].name = "0";
  machine.links.clear();
  EXPECT_EQ(apply_calibration(measured, kHere, machine),
            "speeds measured by berth calibrate on 2026-11-21");
  EXPECT_EQ(machine.find("0")->memory_bandwidth, 4.2e12);
  EXPECT_EQ(machine.find_link("cpu", "0")->bandwidth, 41e9) << "the link of the GPU that it is";
  EXPECT_EQ(machine.links.size(), 1u);
}

TEST_F(Calibration, DoesNotTakeAnotherGpuForTheOneMeasured) {
  const Machine measured = measured_on(folder_);
  Machine machine = probed_like(measured);
  machine.devices[0].uuid = "GPU-cc";
  machine.devices[1].uuid = "GPU-dd";
  machine.devices[1].description = "NVIDIA L4";
  const std::string sentence = apply_calibration(measured, kHere, machine);
  EXPECT_EQ(
      sentence,
      "speeds measured by berth calibrate on 2026-11-21; default speeds for gpu 0 (another "
      "one of its kind was measured), gpu 1 (NVIDIA H200 was measured); run `berth calibrate` "
      "again");
  EXPECT_EQ(machine.find("0")->memory_bandwidth, 1);
  EXPECT_EQ(machine.find("1")->memory_bandwidth, 1);
  EXPECT_EQ(machine.find_link("cpu", "0")->bandwidth, 2) << "nor its links";
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 21.34e9) << "the rest holds";
}

TEST_F(Calibration, GoesByOrdinalAndProductWhereUuidsAreUnknown) {
  Machine measured = measured_on(folder_);
  measured.devices[0].uuid = measured.devices[1].uuid = "";
  measured.devices[1].description = "NVIDIA L4";
  Machine machine = probed_like(measured_on(folder_));
  const std::string sentence = apply_calibration(measured, kHere, machine);
  EXPECT_THAT(sentence, HasSubstr("default speeds for gpu 1 (NVIDIA L4 was measured);"));
  EXPECT_EQ(machine.find("0")->memory_bandwidth, 4.1e12);
}

TEST_F(Calibration, NamesGpusThatCameLater) {
  const Machine measured = measured_on(folder_);
  Machine machine = probed_like(measured);
  machine.devices.push_back(gpu("2", "GPU-new"));
  EXPECT_THAT(apply_calibration(measured, kHere, machine),
              HasSubstr("default speeds for gpu 2 (not measured); run `berth calibrate` again"));
}

TEST_F(Calibration, HoldsForTheCpusAndTheProcessorItWasMeasuredOn) {
  const Machine measured = measured_on(folder_);
  Machine machine = probed_like(measured);
  EXPECT_THAT(apply_calibration(measured, {"node-7", 2}, machine),
              HasSubstr("cpu (measured on 4 CPUs, 2 may be used now)"));
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 1);
  machine.devices[2].description = "Intel Xeon";
  EXPECT_THAT(apply_calibration(measured, kHere, machine),
              HasSubstr("cpu (AMD EPYC was measured)"));
  EXPECT_TRUE(machine.find("cpu")->matvec.empty());
}

TEST_F(Calibration, HoldsForTheFileSystemThatWasMeasured) {
  const Machine measured = measured_on(folder_);
  Machine machine = probed_like(measured);
  fs::create_directories(folder_ / "models/x");
  machine.devices[3].description = (folder_ / "models/x").string();
  apply_calibration(measured, kHere, machine);
  EXPECT_EQ(machine.find("disk")->memory_bandwidth, 3.4e9) << "another folder of the same";

  machine = probed_like(measured);
  machine.devices[3].description = "/proc";
  EXPECT_THAT(apply_calibration(measured, kHere, machine),
              HasSubstr("disk (that of " + folder_.string() + " was measured)"));
  machine = probed_like(measured);
  EXPECT_THAT(apply_calibration(measured, {"node-8", 4}, machine),
              HasSubstr("disk (measured on host node-7)"));
  EXPECT_EQ(machine.find("disk")->memory_bandwidth, 1);
  EXPECT_EQ(machine.find("0")->memory_bandwidth, 4.1e12) << "a GPU is itself in any host";
}

TEST_F(Calibration, SaysWhereNothingIsOfThisMachine) {
  Machine measured = measured_on(folder_);
  measured.devices = {measured.devices[2]};
  measured.links.clear();
  Machine machine = probed_like(measured);
  EXPECT_EQ(apply_calibration(measured, {"node-7", 8}, machine),
            "default speeds: no device is one of those measured by berth calibrate on 2026-11-21: "
            "cpu (measured on 4 CPUs, 8 may be used now); run `berth calibrate` again");
}

TEST_F(Calibration, IsKeptWhereConfigurationIs) {
  EXPECT_EQ(calibration_file(), "");
  setenv("HOME", "/home/x", 1);
  EXPECT_EQ(calibration_file(), "/home/x/.config/berth/machine.yaml");
  setenv("XDG_CONFIG_HOME", "relative", 1);
  EXPECT_EQ(calibration_file(), "/home/x/.config/berth/machine.yaml");
  setenv("XDG_CONFIG_HOME", "/cfg", 1);
  EXPECT_EQ(calibration_file(), "/cfg/berth/machine.yaml");
  setenv("BERTH_MACHINE_FILE", "here.yaml", 1);
  EXPECT_EQ(calibration_file(), "here.yaml");
  setenv("BERTH_MACHINE_FILE", "", 1);
  EXPECT_EQ(calibration_file(), "") << "set and empty turns it off";
}

TEST_F(Calibration, IsUsedWhereItIsFoundAndMissedWhereItIsNot) {
  setenv("XDG_CONFIG_HOME", folder_.c_str(), 1);
  Machine measured = measured_on(folder_);
  const Here here = this_host();
  measured.calibrated->host = here.host;
  measured.calibrated->threads = here.threads;
  Machine machine = probed_like(measured);
  EXPECT_EQ(use_calibration(machine),
            "default speeds: run `berth calibrate` to measure this machine");
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 1);
  write("berth/machine.yaml", write_machine(measured));
  EXPECT_EQ(use_calibration(machine), "speeds measured by berth calibrate on 2026-11-21");
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 21.34e9);
}

TEST_F(Calibration, ThatIsBrokenIsAnErrorOnlyWhereItWasAskedFor) {
  setenv("XDG_CONFIG_HOME", folder_.c_str(), 1);
  const fs::path file = write("berth/machine.yaml", "devices:\n  - {name: cpu, capacity: 1GBs}\n");
  Machine machine = probed_like(measured_on(folder_));
  const std::string sentence = use_calibration(machine);
  EXPECT_THAT(sentence, StartsWith("default speeds: " + file.string() + ":2: "));
  EXPECT_THAT(sentence, HasSubstr("; run `berth calibrate` again"));
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 1);
  setenv("BERTH_MACHINE_FILE", file.c_str(), 1);
  EXPECT_THROW(use_calibration(machine), Error);
  setenv("BERTH_MACHINE_FILE", (folder_ / "absent.yaml").c_str(), 1);
  EXPECT_THROW(use_calibration(machine), Error);
}

TEST_F(Calibration, MayBeAMachineFileWrittenByHand) {
  const fs::path file = write("mine.yaml",
                              "devices:\n  - {name: cpu, capacity: 1GiB, memory_bandwidth: "
                              "90GB/s}\n");
  setenv("BERTH_MACHINE_FILE", file.c_str(), 1);
  Machine machine = probed_like(measured_on(folder_));
  machine.devices = {machine.devices[2]};
  machine.links.clear();
  EXPECT_EQ(use_calibration(machine), "speeds from " + file.string());
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 90e9);
}

}  // namespace
}  // namespace berth
