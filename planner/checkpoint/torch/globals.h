// Turns what a torch.save pickle says about tensors into values: which bytes of which storage each
// tensor is.
//
// Such a pickle looks up or calls functions and classes by name. The names that it may use are a
// fixed list here: the functions that rebuild tensors, the classes of storages, dtypes, and
// OrderedDict. Any other name throws an Error that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "berth/tensor.h"
#include "planner/checkpoint/torch/pickle.h"

namespace berth {

// A storage, as a persistent id describes it: ('storage', class, key, location, elements).
struct TorchStorage {
  PickleValue key;             // the name of the storage in the archive; always kText
  std::optional<DType> dtype;  // nullopt: untyped, and `elements` counts bytes
  std::uint64_t elements = 0;

  std::uint64_t bytes() const { return elements * (dtype ? dtype_bits(*dtype) / 8 : 1); }
};

// A tensor, as a call of one of torch._utils._rebuild_tensor* describes it.
struct TorchTensor {
  std::uint32_t storage = 0;  // index into TorchHost::storages()
  DType dtype = DType::kF32;
  std::uint64_t offset = 0;  // in elements, from the start of the storage
  PickleValue shape;         // a tuple of the pickle, not checked yet
  PickleValue strides;
  PickleValue metadata;  // a dict of flags such as `neg` and `conj`, or None; not checked yet
  std::uint32_t at = 0;  // byte of the pickle that made it, for messages
};

class TorchHost final : public PickleHost {
 public:
  PickleValue global(PickleMachine& machine, std::string_view module, std::string_view name,
                     std::uint32_t at) override;
  PickleValue persistent(PickleMachine& machine, PickleValue id, std::uint32_t at) override;
  PickleValue reduce(PickleMachine& machine, PickleValue callable, PickleValue arguments,
                     std::uint32_t at) override;

  const std::vector<TorchStorage>& storages() const { return storages_; }
  // The tensor that `value` stands for; nullptr if it is not a tensor.
  const TorchTensor* tensor(PickleValue value) const;

 private:
  PickleValue rebuild(PickleMachine& machine, std::span<const PickleValue> arguments,
                      std::size_t least, bool typed, std::uint32_t at);

  std::vector<TorchStorage> storages_;
  std::vector<TorchTensor> tensors_;
};

}  // namespace berth
