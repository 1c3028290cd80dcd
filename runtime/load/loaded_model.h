// The result of a load: the tensors, the memory that they are in, and where in the shards those are
// that stayed on disk.
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
#include "runtime/quant/zero_points.h"
#include "runtime/verify/checksums.h"

namespace berth {

using Mappings = std::map<std::uint32_t, std::unique_ptr<FileMapping>>;  // by shard

// Copies what it needs of the model and the plan, so neither has to outlive it. Its const functions
// are safe for use from many threads.
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
  // The file that tensors with a kOffload destination are fetched from.
  void keep_offload(std::shared_ptr<const OffloadFile> file) { offload_ = std::move(file); }
  // From now on fetch() compares what it reads from shards with this checksum file. Throws Error
  // where that cannot be read, or is for another model.
  void verify_fetched(const std::filesystem::path& checksums);
  // Reads the zero points of weights that fetch() will dequantise, and says what they are. Throws
  // Error where fetch() could not use them.
  void look_at_zero_points(ZeroPointNotes& notes) const;
  // Page-locks host memory for as long as the model lives.
  void keep_locked(HostRegistration registration) { locked_.push_back(std::move(registration)); }
  // How many bytes the tensors on a device take; tied tensors are one storage and count once. Of
  // tensors on disk: how many they will take once fetched.
  std::uint64_t bytes_on(std::uint32_t device) const;
  // How many bytes of the mapped ranges are in RAM now; estimated as FileMapping::resident() does.
  std::uint64_t resident() const;

 private:
  // The files of one fetch(). They must be what they were when their headers were read; what is
  // read from them is verified.
  class Fetching;
  HostBlock fetch_packed(const PackedWeight& weight, DType dtype, std::uint64_t bytes) const;

  std::vector<Destination> destinations_;
  std::vector<std::uint64_t> shapes_;  // of all tensors, one after another
  std::vector<LoadedTensor> tensors_;
  // The model's checkpoint. Its tensors are kept only where some of them stayed on disk.
  Checkpoint checkpoint_;
  std::map<TensorId, PackedWeight> packed_;  // tensors on disk that fetch() dequantises
  std::vector<MatrixShape> tiled_;           // which Destination::matrix indexes
  std::vector<QuantScheme> schemes_;         // of the weights in packed_
  std::vector<std::shared_ptr<void>> memory_;
  std::vector<HostRegistration> locked_;  // after memory_, so released before it
  Mappings mappings_;
  std::vector<MappedRange> mapped_;
  std::shared_ptr<const OffloadFile> offload_;
  std::unique_ptr<Verifier> verifier_;  // for what is fetched; null: nothing is verified
  WrapReader wrap_reader_;
  LoadReport report_;
};

}  // namespace berth
