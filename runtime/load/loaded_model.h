// The result of a load: tensors, the memory they live in, and an index into the shards for the
// rest.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "berth/load.h"
#include "cuda/device.h"
#include "runtime/io/memory.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/environment.h"
#include "runtime/load/offload.h"
#include "runtime/load/schedule.h"
#include "runtime/verify/checksums.h"

namespace berth {

using Mappings = std::map<std::uint32_t, std::unique_ptr<FileMapping>>;  // by shard

// Copies what it needs of model and plan: neither must outlive it.
class Loaded final : public LoadedModel {
 public:
  Loaded(const Model& model, const Plan& plan, const Schedule& schedule, Mappings mappings,
         std::span<const std::unique_ptr<DeviceSink>> sinks, const std::vector<bool>& emulated,
         WrapReader wrap_reader);

  const LoadReport& report() const override { return report_; }
  const LoadedTensor& tensor(TensorId id) const override;
  HostBlock fetch(TensorId id) const override;
  void check_mapped() const override;

  // While the load is being finished.
  LoadReport& mutable_report() { return report_; }
  // What kOffload destinations are read from, and what fetched tensors are compared with.
  void keep_offload(std::shared_ptr<const OffloadFile> file) { offload_ = std::move(file); }
  void verify_fetched(const std::filesystem::path& checksums);
  // Page-locks host memory for as long as the model lives.
  void keep_locked(HostRegistration registration) { locked_.push_back(std::move(registration)); }
  // Bytes of the tensors that are on a device now, shared storage once; on disk: as stored.
  std::uint64_t bytes_on(std::uint32_t device) const;
  // Bytes of mapped ranges in RAM now.
  std::uint64_t resident() const;

 private:
  // One fetch: reads files that must be what they were, and verifies what it reads.
  class Fetching;
  HostBlock fetch_packed(const PackedWeight& weight, DType dtype, std::uint64_t bytes) const;

  std::vector<Destination> destinations_;
  std::vector<std::uint64_t> shapes_;  // of all tensors, one after another
  std::vector<LoadedTensor> tensors_;
  Checkpoint checkpoint_;  // its shards; where tensors stayed on disk, all tensors in file order
  std::map<TensorId, PackedWeight> packed_;  // of that, what fetch() dequantises
  std::vector<QuantScheme> schemes_;         // theirs
  std::vector<std::shared_ptr<void>> memory_;
  std::vector<HostRegistration> locked_;  // after memory_, so released before it
  Mappings mappings_;
  std::vector<MappedRange> mapped_;
  std::shared_ptr<const OffloadFile> offload_;
  std::unique_ptr<Verifier> verifier_;  // of checkpoint_
  WrapReader wrap_reader_;
  LoadReport report_;
};

}  // namespace berth
