// What a torch.save pickle says about tensors, as values: which bytes of which storage each one is.
//
// The names that such pickles look up or call are a fixed list here: the functions that rebuild
// tensors, the classes of storages, dtypes, and OrderedDict. Any other is an Error that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "berth/tensor.h"
#include "planner/checkpoint/torch/pickle.h"

namespace berth {

// A persistent id: ('storage', class, key, location, elements).
struct TorchStorage {
  PickleValue key;             // a text: the storage's name in the archive
  std::optional<DType> dtype;  // nullopt: untyped, `elements` are bytes
  std::uint64_t elements = 0;

  std::uint64_t bytes() const { return elements * (dtype ? dtype_bits(*dtype) / 8 : 1); }
};

// A call of one of torch._utils._rebuild_tensor*.
struct TorchTensor {
  std::uint32_t storage = 0;  // index into TorchHost::storages()
  DType dtype = DType::kF32;
  std::uint64_t offset = 0;  // elements
  PickleValue shape;         // tuples of the pickle, not yet looked at
  PickleValue strides;
  PickleValue metadata;  // a dict of what else the elements are, or None; not yet looked at either
  std::uint32_t at = 0;  // byte of the pickle
};

class TorchHost final : public PickleHost {
 public:
  PickleValue global(PickleMachine& machine, std::string_view module, std::string_view name,
                     std::uint32_t at) override;
  PickleValue persistent(PickleMachine& machine, PickleValue id, std::uint32_t at) override;
  PickleValue reduce(PickleMachine& machine, PickleValue callable, PickleValue arguments,
                     std::uint32_t at) override;

  const std::vector<TorchStorage>& storages() const { return storages_; }
  // The tensor that a value is; nullptr where it is none.
  const TorchTensor* tensor(PickleValue value) const;

 private:
  PickleValue rebuild(PickleMachine& machine, std::span<const PickleValue> arguments,
                      std::size_t least, bool typed, std::uint32_t at);

  std::vector<TorchStorage> storages_;
  std::vector<TorchTensor> tensors_;
};

}  // namespace berth
