// Checkpoints, models and plans that each test makes for itself, in a temporary folder.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <iosfwd>
#include <random>
#include <string>
#include <vector>

#include "berth/load.h"
#include "berth/model.h"
#include "berth/plan.h"
#include "berth/planner.h"
#include "runtime/load/environment.h"

namespace berth::testing {

// A temporary folder. It is removed with its contents.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A tensor to be written, and what it must hold in memory afterwards.
struct TestTensor {
  std::string name;
  DType stored = DType::kF32;
  DType dtype = DType::kF32;
  std::uint32_t shard = 0;
  Shape shape;
  std::string device = "cpu";
  int tied_to = -1;         // index of the tensor whose storage it shares; then it is not written
  std::vector<char> bytes;  // as stored; filled by write_checkpoint
};

// Writes shards with random contents and opens them. `odd_headers` pads the headers by odd lengths,
// so that tensors stand at odd offsets.
Model write_model(const std::filesystem::path& folder, std::vector<TestTensor>& tensors,
                  std::uint32_t shards, std::mt19937& random, bool odd_headers);

// Makes about a third of the tensors views, as in PyTorch's files: they share some or all bytes of
// another tensor of their shard.
void share_bytes(Model& model, std::vector<TestTensor>& tensors, std::mt19937& random);

// A plan that places each tensor on the device that the tensor names. The devices are "0", "1",
// "cpu" and "disk"; each has space for everything.
Plan make_test_plan(const Model& model, const std::vector<TestTensor>& tensors, CpuMemory mode);

// What the stored bytes of `tensor` are in memory, as its dtype: by the reference cast.
std::vector<char> in_memory(const TestTensor& tensor);

// Expects every tensor of `loaded` to hold what was written, on whatever device it is.
void expect_loaded(const Model& model, const Plan& plan, const std::vector<TestTensor>& tensors,
                   const LoadedModel& loaded);

// Tensors of every kind of dtype and of awkward sizes, spread over shards and `devices`.
std::vector<TestTensor> random_tensors(std::mt19937& random, std::size_t count,
                                       std::uint32_t shards,
                                       const std::vector<std::string>& devices, bool convert);

// All read engines, and whether this system has one.
std::vector<IoEngine> all_engines();
bool is_available(IoEngine engine);
// The name of a test that is run for each engine.
std::string engine_test_name(const ::testing::TestParamInfo<IoEngine>& info);

std::size_t open_descriptors();
std::size_t running_threads();

// What this process holds of the system. Equal before and after an operation that leaves nothing
// behind.
struct Held {
  std::size_t threads = 0;
  std::size_t descriptors = 0;
  std::size_t shard_mappings = 0;      // of .safetensors files
  std::uint64_t mapped_mebibytes = 0;  // address space

  // Allocators keep some memory for later: less than 8 MiB of difference is none.
  bool operator==(const Held& other) const;
};
std::ostream& operator<<(std::ostream& out, const Held& held);
Held held();

// Drops a file from the page cache. Returns which fraction of it is still there, or -1 where the
// kernel does not say.
void forget_pages(const std::filesystem::path& file);
double pages_resident(const std::filesystem::path& file);

}  // namespace berth::testing
