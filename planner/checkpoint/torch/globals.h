// Turns what a torch.save pickle says about tensors into values: which bytes of which storage each
// tensor is.
//
// Such a pickle looks up or calls functions and classes by name. The names that it may use are a
// fixed list here, that of torch.load(weights_only=True) (PyTorch 2.11,
// _weights_only_unpickler.py): the functions that rebuild tensors, the classes of storages, dtypes,
// and plain objects that stand beside tensors (OrderedDict, set, torch.device, ...). Any other name
// throws an Error that names it. A tensor of a kind that is not read, such as a sparse one, is an
// error only where it is part of the state dict.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "berth/tensor.h"
#include "planner/checkpoint/torch/pickle.h"

namespace berth {

// A storage, as a persistent id describes it: ('storage', class, key, location, elements), or a
// part of one, as releases of PyTorch before 0.4 wrote it.
struct TorchStorage {
  PickleValue key;             // the name of the storage in the archive; always kText
  std::optional<DType> dtype;  // nullopt: untyped, or of a type that is not read
  std::string_view type;       // of a type that is not read: its name
  std::uint64_t width = 1;     // bytes of an element
  std::uint64_t elements = 0;  // of the whole storage
  std::uint64_t begin = 0;     // of the part: its first element
  std::uint64_t count = 0;     // and its number of elements

  std::uint64_t bytes() const { return elements * width; }
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
  // Why it is not read ("is sparse: ..."); then what stands above means nothing. Empty: it is read.
  std::string_view problem;
  std::string_view type;  // the name of a type that is not read
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
  PickleValue rebuild_from_type(PickleMachine& machine, std::span<const PickleValue> parts,
                                std::uint32_t at);
  PickleValue dict_of(PickleMachine& machine, std::span<const PickleValue> arguments,
                      std::uint32_t at);
  PickleValue add(TorchTensor tensor);
  PickleValue unread(std::string_view problem, std::uint32_t at, std::string_view type = {});

  std::vector<TorchStorage> storages_;
  std::vector<TorchTensor> tensors_;
};

}  // namespace berth
