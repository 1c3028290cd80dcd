#include "planner/checkpoint/torch/globals.h"

#include <algorithm>
#include <string>

#include "planner/base/quote.h"

namespace berth {
namespace {

// What PickleValue::host_kind is for a kGlobal. Brackets say what its payload is, if it has one.
enum Global : std::uint8_t {
  kOrderedDict,
  kSize,              // torch.Size
  kRebuild,           // _rebuild_tensor, _rebuild_tensor_v2
  kRebuildTyped,      // _rebuild_tensor_v3: the dtype is an argument
  kRebuildParameter,  // _rebuild_parameter, _rebuild_parameter_with_state
  kRebuildFromType,   // _rebuild_from_type_v2
  kTensorClass,       // Tensor, Parameter, Buffer: named, never called
  kUntypedStorage,    // named in persistent ids, never called
  kTypedStorage,      // likewise; [DType]
  kDType,             // [DType]
};

// What PickleValue::host_kind is for a kHost.
enum Object : std::uint8_t {
  kStorageObject,  // [index into storages]
  kTensorObject,   // [index into tensors]
};

struct KnownGlobal {
  std::string_view module;
  std::string_view name;
  Global kind;
  DType dtype = DType::kF32;
};

constexpr KnownGlobal kGlobals[] = {
    {"collections", "OrderedDict", kOrderedDict},
    {"torch", "Size", kSize},
    {"torch._utils", "_rebuild_tensor", kRebuild},
    {"torch._utils", "_rebuild_tensor_v2", kRebuild},
    {"torch._utils", "_rebuild_tensor_v3", kRebuildTyped},
    {"torch._utils", "_rebuild_parameter", kRebuildParameter},
    {"torch._utils", "_rebuild_parameter_with_state", kRebuildParameter},
    {"torch._tensor", "_rebuild_from_type_v2", kRebuildFromType},
    {"torch", "Tensor", kTensorClass},
    {"torch.nn.parameter", "Parameter", kTensorClass},
    {"torch.nn.parameter", "Buffer", kTensorClass},
    {"torch.storage", "UntypedStorage", kUntypedStorage},
    {"torch", "UntypedStorage", kUntypedStorage},
    {"torch", "FloatStorage", kTypedStorage, DType::kF32},
    {"torch", "DoubleStorage", kTypedStorage, DType::kF64},
    {"torch", "HalfStorage", kTypedStorage, DType::kF16},
    {"torch", "BFloat16Storage", kTypedStorage, DType::kBF16},
    {"torch", "LongStorage", kTypedStorage, DType::kI64},
    {"torch", "IntStorage", kTypedStorage, DType::kI32},
    {"torch", "ShortStorage", kTypedStorage, DType::kI16},
    {"torch", "CharStorage", kTypedStorage, DType::kI8},
    {"torch", "ByteStorage", kTypedStorage, DType::kU8},
    {"torch", "BoolStorage", kTypedStorage, DType::kBool},
    {"torch", "ComplexFloatStorage", kTypedStorage, DType::kC64},
};

bool is_global(PickleValue value, Global kind) {
  return value.kind == PickleKind::kGlobal && value.host_kind == kind;
}

PickleValue global_value(Global kind, DType dtype, std::uint32_t at) {
  return {PickleKind::kGlobal, kind, at, static_cast<std::uint64_t>(dtype)};
}

// The value as a non-negative integer; nullopt if it is none.
std::optional<std::uint64_t> count_of(PickleValue value) {
  if (value.kind != PickleKind::kInt || value.payload >> 63 != 0) return std::nullopt;
  return value.payload;
}

}  // namespace

PickleValue TorchHost::global(PickleMachine& machine, std::string_view module,
                              std::string_view name, std::uint32_t at) {
  for (const KnownGlobal& known : kGlobals) {
    if (known.name == name && known.module == module) {
      return global_value(known.kind, known.dtype, at);
    }
  }
  if (module == "torch") {
    const auto dtype = parse_torch_dtype(name);
    if (dtype && dtype_bits(*dtype) >= 8) return global_value(kDType, *dtype, at);
  }
  machine.fail(at, "the pickle asks for " + quote(std::string(module) + "." + std::string(name)) +
                       ", which is refused: nothing is executed, and only what rebuilds tensors is "
                       "read (save the state dict alone to leave the rest out)");
}

PickleValue TorchHost::persistent(PickleMachine& machine, PickleValue id, std::uint32_t at) {
  const auto refuse = [&](const std::string& why) {
    machine.fail(at, "a persistent id is not ('storage', class, key, location, elements): " + why);
  };
  if (id.kind != PickleKind::kTuple) refuse("it is not a tuple");
  const auto parts = machine.items(id);
  // The older format has a sixth element: None, or where the storage is a view of another one.
  if (parts.size() != 5 && parts.size() != 6) {
    refuse("it has " + std::to_string(parts.size()) + " elements");
  }
  if (parts[0].kind != PickleKind::kText || machine.text(parts[0]) != "storage") {
    refuse("it does not begin with 'storage'");
  }
  const bool untyped = is_global(parts[1], kUntypedStorage);
  if (!untyped && !is_global(parts[1], kTypedStorage)) refuse("the class is not that of a storage");
  if (parts[2].kind != PickleKind::kText) refuse("the key is not a string");
  const auto elements = count_of(parts[4]);
  if (!elements || *elements >> 56 != 0) refuse("the number of elements is not a count");
  if (parts.size() == 6 && parts[5].kind != PickleKind::kNone) {
    machine.fail(at, "storage " + quote(machine.text(parts[2])) +
                         " is a view of another storage, as only old releases of PyTorch write it; "
                         "save it again with torch.save");
  }
  storages_.push_back({parts[2],
                       untyped ? std::nullopt : std::optional(static_cast<DType>(parts[1].payload)),
                       *elements});
  return {PickleKind::kHost, kStorageObject, at, storages_.size() - 1};
}

PickleValue TorchHost::reduce(PickleMachine& machine, PickleValue callable, PickleValue arguments,
                              std::uint32_t at) {
  const auto parts = machine.items(arguments);
  switch (callable.host_kind) {
    case kOrderedDict:
      if (!parts.empty()) machine.fail(at, "OrderedDict is called with arguments: refused");
      return machine.new_dict(at);
    case kSize:
      if (parts.size() != 1 || parts[0].kind != PickleKind::kTuple) {
        machine.fail(at, "torch.Size is not called with a tuple");
      }
      return parts[0];
    case kRebuild:
      return rebuild(machine, parts, 4, false, at);
    case kRebuildTyped:
      return rebuild(machine, parts, 7, true, at);
    case kRebuildParameter:
      if (parts.empty() || tensor(parts[0]) == nullptr) {
        machine.fail(at, "_rebuild_parameter is not called with a tensor");
      }
      return parts[0];
    case kRebuildFromType:
      // The arguments are (function, class, arguments of the function, attributes).
      if (parts.size() == 4 && parts[0].kind == PickleKind::kGlobal &&
          (parts[0].host_kind == kRebuild || parts[0].host_kind == kRebuildTyped) &&
          is_global(parts[1], kTensorClass) && parts[2].kind == PickleKind::kTuple) {
        return reduce(machine, parts[0], parts[2], at);
      }
      machine.fail(at, "_rebuild_from_type_v2 is called for something that is not a plain tensor");
    default:
      machine.fail(at, "the pickle calls a class that may only be named: refused");
  }
}

// The arguments are (storage, offset, shape, strides, requires_grad, backward_hooks[, dtype][,
// metadata]).
PickleValue TorchHost::rebuild(PickleMachine& machine, std::span<const PickleValue> arguments,
                               std::size_t least, bool typed, std::uint32_t at) {
  const std::size_t plain = typed ? 7 : 6;  // how many there are without metadata
  if (arguments.size() < least || arguments.size() > plain + 1) {
    machine.fail(at, "a tensor is rebuilt from " + std::to_string(arguments.size()) + " arguments");
  }
  const PickleValue storage = arguments[0];
  if (storage.kind != PickleKind::kHost || storage.host_kind != kStorageObject) {
    machine.fail(at, "a tensor is rebuilt from something that is not a storage");
  }
  const auto offset = count_of(arguments[1]);
  if (!offset) machine.fail(at, "a tensor's storage offset is not a count");
  if (arguments[2].kind != PickleKind::kTuple || arguments[3].kind != PickleKind::kTuple) {
    machine.fail(at, "a tensor's shape or strides are not a tuple");
  }
  std::optional<DType> dtype = storages_[storage.payload].dtype;
  if (typed) {
    if (!is_global(arguments[6], kDType)) machine.fail(at, "a tensor's dtype is not a dtype");
    dtype = static_cast<DType>(arguments[6].payload);
  }
  if (!dtype) machine.fail(at, "a tensor without a dtype is rebuilt from an untyped storage");
  tensors_.push_back({static_cast<std::uint32_t>(storage.payload), *dtype, *offset, arguments[2],
                      arguments[3], arguments.size() > plain ? arguments[plain] : PickleValue{},
                      at});
  return {PickleKind::kHost, kTensorObject, at, tensors_.size() - 1};
}

const TorchTensor* TorchHost::tensor(PickleValue value) const {
  if (value.kind != PickleKind::kHost || value.host_kind != kTensorObject) return nullptr;
  return &tensors_[value.payload];
}

}  // namespace berth
