// berth calibrate: measure this machine and keep the figures where plan finds them.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

#include "berth/error.h"
#include "cli/commands.h"
#include "cli/options/deployment.h"
#include "cli/process/interrupt.h"
#include "cli/process/runtime_library.h"
#include "cli/process/terminal.h"
#include "cli/report/calibration_report.h"
#include "planner/base/output_file.h"
#include "planner/machine/calibration.h"
#include "planner/machine/machine_writer.h"
#include "planner/machine/sizes.h"
#include "planner/model/open/formats.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// Shares of the time. What a part leaves is not given to others: more of it changes little.
constexpr double kRamShare = 0.15;
constexpr double kKernelShare = 0.35;
constexpr double kDiskShare = 0.25;
constexpr double kGpuShare = 0.25;

struct Target {
  fs::path folder;              // of the disk
  std::vector<fs::path> files;  // of the model, the largest first; empty without one
};

// The shards of a model of any format, the largest first.
Target target_of_model(const fs::path& model) {
  Checkpoint checkpoint;
  try {
    checkpoint = open_stored(model);
  } catch (const Error& error) {
    throw Error(
        fmt::format("{}; name a folder with --disk to measure without a model", error.what()));
  }
  std::stable_sort(checkpoint.shards.begin(), checkpoint.shards.end(),
                   [](const Shard& a, const Shard& b) { return a.file_bytes > b.file_bytes; });
  Target target{checkpoint.folder.empty() ? fs::path(".") : checkpoint.folder, {}};
  for (const Shard& shard : checkpoint.shards) target.files.push_back(shard.path);
  return target;
}

Target target_of(const Options& options) {
  const fs::path& model = options.model;
  std::error_code ignored;
  if (model.empty()) {
    const fs::path folder = options.disk.value_or(".");
    if (!fs::is_directory(folder, ignored))
      throw Error(fmt::format("{}: no such folder (--disk)", folder.string()));
    return {folder, {}};
  }
  const bool deployment = model.extension() == ".yaml" || model.extension() == ".yml";
  return target_of_model(deployment ? read_deployment(model).model : model);
}

// The file that the figures go to. It is found and made writable before any time is spent.
fs::path out_file(const Options& options) {
  const fs::path file = options.out ? *options.out : calibration_file();
  if (file.empty())
    throw Error(
        "there is no place for the machine file (no HOME, or BERTH_MACHINE_FILE is "
        "empty): name one with --out");
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  std::error_code error;
  if (!options.out) fs::create_directories(folder, error);
  if (fs::is_directory(file, error))
    throw Error(fmt::format("{}: is a folder; name a file with --out", file.string()));
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error(fmt::format("{}: cannot be written: {}; name another file with --out",
                            file.string(), std::strerror(errno)));
  return file;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  std::array<char, 16> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d", &parts);
  return text.data();
}

// Measures one part after the other; a part that fails is a note, and the rest goes on.
class Calibrating {
 public:
  Calibrating(const Options& options, const Target& target, const Machine& machine,
              const std::atomic<bool>* cancel)
      : options_(options), target_(target), machine_(machine), cancel_(cancel), here_(this_host()) {
    measured_.calibrated = {today(), here_.host, BERTH_VERSION, here_.threads};
  }

  Measurements run() {
    part("host RAM", kRamShare, [&](double seconds) { measure_ram(seconds); });
    part("the kernels on the CPU", kKernelShare, [&](double seconds) { measure_kernels(seconds); });
    part("the disk of " + target_.folder.string(), kDiskShare,
         [&](double seconds) { measure_disk(seconds); });
    part("GPUs", kGpuShare, [&](double seconds) { measure_gpus(seconds); });
    return std::move(measured_);
  }

 private:
  template <class Work>
  void part(const std::string& what, double share, Work work) {
    const double seconds = share * options_.seconds;
    write_stderr(fmt::format("measuring {}, about {:.0f} s at most\n", what, seconds));
    try {
      work(seconds);
    } catch (const Error& error) {
      if (cancel_->load()) throw;
      measured_.notes.push_back(fmt::format("{}: not measured: {}", what, error.what()));
    }
  }

  void take(const std::vector<std::string>& notes) {
    measured_.notes.insert(measured_.notes.end(), notes.begin(), notes.end());
  }

  std::uint64_t available() const {
    const Device* cpu = machine_.find("cpu");
    return cpu ? cpu->capacity : 0;
  }

  void measure_ram(double seconds) {
    RamOptions ram;
    ram.seconds = seconds;
    ram.threads = here_.threads;
    ram.most = std::min(ram.most, available() / 4);
    ram.cancel = cancel_;
    measured_.ram = loader_library().measure_ram(ram);
    take(measured_.ram->notes);
  }

  void measure_kernels(double seconds) {
    KernelOptions kernels;
    kernels.seconds = seconds;
    kernels.threads = here_.threads;
    constexpr double kEnough = 3;  // seconds for matrices as large as those of models
    if (seconds < kEnough) {
      kernels.width = 512;
      measured_.notes.push_back(
          "the kernels were measured with small matrices, in a hurry: for figures that hold take "
          "--seconds 20 or more");
    }
    // As many bytes as RAM was measured over: four times the caches, if that much is free.
    kernels.weights =
        measured_.ram ? measured_.ram->bytes : std::min(std::uint64_t{1} << 30, available() / 4);
    kernels.folder = target_.folder;
    kernels.cancel = cancel_;
    measured_.kernels = loader_library().measure_kernels(kernels);
    take(measured_.kernels->notes);
  }

  void measure_disk(double seconds) {
    DiskOptions disk;
    disk.folder = target_.folder;
    disk.files = target_.files;
    disk.seconds = seconds;
    disk.cancel = cancel_;
    measured_.disk = loader_library().measure_disk(disk);
    take(measured_.disk->notes);
  }

  void measure_gpus(double seconds) {
    const std::unique_ptr<GpuBench> bench = loader_library().make_gpu_bench();
    if (bench->count() == 0) {
      measured_.notes.push_back("no GPU can be used here: none was measured");
      return;
    }
    GpuOptions gpus;
    gpus.seconds = seconds;
    gpus.cancel = cancel_;
    measured_.gpus = loader_library().measure_gpus(*bench, gpus);
    take(measured_.gpus.notes);
  }

  const Options& options_;
  const Target& target_;
  const Machine& machine_;
  const std::atomic<bool>* cancel_;
  Here here_;
  Measurements measured_;
};

void say_notes(const Measurements& measured, const Options& options, const fs::path& file) {
  for (const std::string& note : measured.notes) write_stderr("note: " + note + "\n");
  std::error_code error;
  const bool found = !options.out || fs::equivalent(file, calibration_file(), error);
  write_stderr(fmt::format("written: {}; {}\n", file.string(),
                           found ? "plan, load and run use it from now on"
                                 : "use it with BERTH_MACHINE_FILE=" + file.string()));
}

}  // namespace

int cmd_calibrate(const Options& options) {
  const Target target = target_of(options);
  const fs::path file = out_file(options);
  const Machine machine = probe_machine(target.folder);
  const InterruptGuard interrupt;
  const Measurements measured =
      interrupt.run([&] { return Calibrating(options, target, machine, interrupt.flag()).run(); });
  if (!measured.ram && !measured.kernels && !measured.disk && measured.gpus.gpus.empty()) {
    throw Error(fmt::format("nothing could be measured: {}", measured.notes.front()));
  }
  write_file(file, write_machine(measured_machine(measured, machine)));
  write_stdout(options.json ? calibration_json(measured, file.string())
                            : calibration_table(measured));
  say_notes(measured, options, file);
  return kExitDone;
}

}  // namespace berth
