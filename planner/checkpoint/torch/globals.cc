#include "planner/checkpoint/torch/globals.h"

#include <algorithm>
#include <string>

#include "planner/base/quote.h"

namespace berth {
namespace {

// What PickleValue::host_kind is for a kGlobal. Brackets say what its payload is, if it has one.
enum Global : std::uint8_t {
  kDictClass,         // OrderedDict, Counter
  kSize,              // torch.Size
  kObject,            // set, torch.device and the like: called for objects that nobody needs
  kNamed,             // named as an argument, never called
  kRebuild,           // _rebuild_tensor, _rebuild_tensor_v2
  kRebuildTyped,      // _rebuild_tensor_v3: the dtype is an argument
  kRebuildParameter,  // _rebuild_parameter, _rebuild_parameter_with_state
  kRebuildFromType,   // _rebuild_from_type_v2
  kRebuildCast,       // _rebuild_device_tensor_from_cpu_tensor: the dtype is an argument
  kRebuildUnread,     // what rebuilds tensors that are not read; [index into kGlobals]
  kTensorClass,       // Tensor, Buffer: named, never called
  kParameterClass,    // Parameter
  kUntypedStorage,    // named in persistent ids, never called
  kTypedStorage,      // likewise; [DType]
  kUnreadStorage,     // likewise; [index into kGlobals]
  kDType,             // [DType]
  kUnreadDType,       // [index into kGlobals]
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
  std::string_view unread = {};  // why tensors are not read, or the name of their type
  std::uint64_t width = 0;       // bytes of an element of a storage that is not read
};

constexpr std::string_view kSparse = "is sparse: write it with .to_dense() and save it again";
constexpr std::string_view kQuantized =
    "is a quantised tensor of torch: write it with .dequantize() and save it again";
constexpr std::string_view kNested = "is a nested tensor, or one of a class of its own";
constexpr std::string_view kMeta = "is a meta tensor, which has no values";
constexpr std::string_view kUnknownType = "is of a type that is not read";
constexpr std::string_view kCast = "is cast to another dtype when it is loaded: save it again";

constexpr KnownGlobal kGlobals[] = {
    {"collections", "OrderedDict", kDictClass},
    {"collections", "Counter", kDictClass},
    {"torch", "Size", kSize},
    {"torch", "device", kObject},
    {"torch.serialization", "_get_layout", kObject},
    {"_codecs", "encode", kObject},
    {"builtins", "bytearray", kObject},
    {"builtins", "set", kObject},
    {"builtins", "complex", kObject},
    {"torch", "per_tensor_affine", kNamed},
    {"torch", "per_tensor_symmetric", kNamed},
    {"torch", "per_channel_affine", kNamed},
    {"torch", "per_channel_symmetric", kNamed},
    {"torch", "per_channel_affine_float_qparams", kNamed},
    {"torch._utils", "_rebuild_tensor", kRebuild},
    {"torch._utils", "_rebuild_tensor_v2", kRebuild},
    {"torch._utils", "_rebuild_tensor_v3", kRebuildTyped},
    {"torch._utils", "_rebuild_parameter", kRebuildParameter},
    {"torch._utils", "_rebuild_parameter_with_state", kRebuildParameter},
    {"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", kRebuildCast},
    {"torch._utils", "_rebuild_sparse_tensor", kRebuildUnread, DType::kF32, kSparse},
    {"torch._utils", "_rebuild_qtensor", kRebuildUnread, DType::kF32, kQuantized},
    {"torch._utils", "_rebuild_nested_tensor", kRebuildUnread, DType::kF32, kNested},
    {"torch._utils", "_rebuild_wrapper_subclass", kRebuildUnread, DType::kF32, kNested},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", kRebuildUnread, DType::kF32, kMeta},
    {"torch._tensor", "_rebuild_from_type_v2", kRebuildFromType},
    {"torch", "Tensor", kTensorClass},
    {"torch.nn.parameter", "Parameter", kParameterClass},
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
    {"torch", "ComplexDoubleStorage", kUnreadStorage, DType::kF32, "complex128", 16},
    {"torch", "QInt8Storage", kUnreadStorage, DType::kF32, "qint8", 1},
    {"torch", "QUInt8Storage", kUnreadStorage, DType::kF32, "quint8", 1},
    {"torch", "QInt32Storage", kUnreadStorage, DType::kF32, "qint32", 4},
    {"torch", "QUInt4x2Storage", kUnreadStorage, DType::kF32, "quint4x2", 1},
    {"torch", "QUInt2x4Storage", kUnreadStorage, DType::kF32, "quint2x4", 1},
    {"torch", "complex128", kUnreadDType, DType::kF32, "complex128"},
    {"torch", "complex32", kUnreadDType, DType::kF32, "complex32"},
    {"torch", "qint8", kUnreadDType, DType::kF32, "qint8"},
    {"torch", "quint8", kUnreadDType, DType::kF32, "quint8"},
    {"torch", "qint32", kUnreadDType, DType::kF32, "qint32"},
    {"torch", "quint4x2", kUnreadDType, DType::kF32, "quint4x2"},
    {"torch", "quint2x4", kUnreadDType, DType::kF32, "quint2x4"},
    {"torch", "float4_e2m1fn_x2", kUnreadDType, DType::kF32, "float4_e2m1fn_x2"},
    {"torch", "bits8", kUnreadDType, DType::kF32, "bits8"},
    {"torch", "bits16", kUnreadDType, DType::kF32, "bits16"},
    {"torch", "bits1x8", kUnreadDType, DType::kF32, "bits1x8"},
    {"torch", "bits2x4", kUnreadDType, DType::kF32, "bits2x4"},
    {"torch", "bits4x2", kUnreadDType, DType::kF32, "bits4x2"},
    {"torch", "int1", kUnreadDType, DType::kF32, "int1"},
    {"torch", "int2", kUnreadDType, DType::kF32, "int2"},
    {"torch", "int3", kUnreadDType, DType::kF32, "int3"},
    {"torch", "int4", kUnreadDType, DType::kF32, "int4"},
    {"torch", "int5", kUnreadDType, DType::kF32, "int5"},
    {"torch", "int6", kUnreadDType, DType::kF32, "int6"},
    {"torch", "int7", kUnreadDType, DType::kF32, "int7"},
    {"torch", "uint1", kUnreadDType, DType::kF32, "uint1"},
    {"torch", "uint2", kUnreadDType, DType::kF32, "uint2"},
    {"torch", "uint3", kUnreadDType, DType::kF32, "uint3"},
    {"torch", "uint4", kUnreadDType, DType::kF32, "uint4"},
    {"torch", "uint5", kUnreadDType, DType::kF32, "uint5"},
    {"torch", "uint6", kUnreadDType, DType::kF32, "uint6"},
    {"torch", "uint7", kUnreadDType, DType::kF32, "uint7"},
};

// Names that Python 2 had, which pickles up to protocol 2 hold still, and those of GPUs' storages.
std::string_view module_of(std::string_view module, std::string_view name) {
  if (module == "__builtin__") return "builtins";
  if (module == "torch.cuda" && name.ends_with("Storage")) return "torch";
  return module;
}

bool is_global(PickleValue value, Global kind) {
  return value.kind == PickleKind::kGlobal && value.host_kind == kind;
}

PickleValue global_value(const KnownGlobal& known, std::uint32_t at) {
  const bool unread = !known.unread.empty();
  const auto payload = unread ? static_cast<std::uint64_t>(&known - kGlobals)
                              : static_cast<std::uint64_t>(known.dtype);
  return {PickleKind::kGlobal, known.kind, at, payload};
}

// The value as a non-negative integer; nullopt if it is none.
std::optional<std::uint64_t> count_of(PickleValue value) {
  if (value.kind != PickleKind::kInt || value.payload >> 63 != 0) return std::nullopt;
  return value.payload;
}

}  // namespace

PickleValue TorchHost::global(PickleMachine& machine, std::string_view module,
                              std::string_view name, std::uint32_t at) {
  const std::string_view today = module_of(module, name);
  for (const KnownGlobal& known : kGlobals) {
    if (known.name == name && known.module == today) return global_value(known, at);
  }
  if (module == "torch") {
    const auto dtype = parse_torch_dtype(name);
    if (dtype && dtype_bits(*dtype) >= 8) {
      return global_value({"torch", name, kDType, *dtype}, at);
    }
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
  TorchStorage storage{parts[2], std::nullopt, {}, 1, 0, 0, 0};
  if (is_global(parts[1], kTypedStorage)) {
    storage.dtype = static_cast<DType>(parts[1].payload);
    storage.width = dtype_bits(*storage.dtype) / 8;
  } else if (is_global(parts[1], kUnreadStorage)) {
    storage.type = kGlobals[parts[1].payload].unread;
    storage.width = kGlobals[parts[1].payload].width;
  } else if (!is_global(parts[1], kUntypedStorage)) {
    refuse("the class is not that of a storage");
  }
  if (parts[2].kind != PickleKind::kText) refuse("the key is not a string");
  const auto elements = count_of(parts[4]);
  if (!elements || *elements >> 56 != 0) refuse("the number of elements is not a count");
  storage.elements = storage.count = *elements;
  if (parts.size() == 6 && parts[5].kind != PickleKind::kNone) {
    const bool tuple = parts[5].kind == PickleKind::kTuple && machine.items(parts[5]).size() == 3;
    if (!tuple) refuse("its part is not (key, offset, elements)");
    const auto begin = count_of(machine.items(parts[5])[1]);
    const auto count = count_of(machine.items(parts[5])[2]);
    if (!begin || !count || *begin > *elements || *count > *elements - *begin) {
      refuse("its part is not within the storage");
    }
    storage.begin = *begin;
    storage.count = *count;
  }
  storages_.push_back(storage);
  return {PickleKind::kHost, kStorageObject, at, storages_.size() - 1};
}

PickleValue TorchHost::add(TorchTensor tensor) {
  tensors_.push_back(tensor);
  return {PickleKind::kHost, kTensorObject, tensor.at, tensors_.size() - 1};
}

PickleValue TorchHost::unread(std::string_view problem, std::uint32_t at, std::string_view type) {
  TorchTensor tensor;
  tensor.at = at;
  tensor.problem = problem;
  tensor.type = type;
  return add(tensor);
}

// A dict of nothing, of another one, or of pairs in a list, as Python 2 wrote it.
PickleValue TorchHost::dict_of(PickleMachine& machine, std::span<const PickleValue> arguments,
                               std::uint32_t at) {
  if (arguments.empty()) return machine.new_dict(at);
  if (arguments.size() == 1 && arguments[0].kind == PickleKind::kDict) {
    const auto pairs = machine.pairs(arguments[0]);
    return machine.new_dict(at, {pairs.begin(), pairs.end()});
  }
  const bool list = arguments.size() == 1 && (arguments[0].kind == PickleKind::kList ||
                                              arguments[0].kind == PickleKind::kTuple);
  std::vector<PickleValue> pairs;
  for (const PickleValue item : list ? machine.items(arguments[0]) : arguments) {
    const bool pair = list && (item.kind == PickleKind::kList || item.kind == PickleKind::kTuple) &&
                      machine.items(item).size() == 2;
    if (!pair) machine.fail(at, "a dict is made of something that is not pairs");
    pairs.insert(pairs.end(), machine.items(item).begin(), machine.items(item).end());
  }
  return machine.new_dict(at, std::move(pairs));
}

PickleValue TorchHost::reduce(PickleMachine& machine, PickleValue callable, PickleValue arguments,
                              std::uint32_t at) {
  const auto parts = machine.items(arguments);
  switch (callable.host_kind) {
    case kDictClass:
      return dict_of(machine, parts, at);
    case kSize:
      if (parts.size() != 1 || parts[0].kind != PickleKind::kTuple) {
        machine.fail(at, "torch.Size is not called with a tuple");
      }
      return parts[0];
    case kObject:
      return {PickleKind::kOpaque, 0, at, 0};
    case kRebuild:
      return rebuild(machine, parts, 4, false, at);
    case kRebuildTyped:
      return rebuild(machine, parts, 7, true, at);
    case kParameterClass:
    case kRebuildParameter:
      if (parts.empty() || tensor(parts[0]) == nullptr) {
        machine.fail(at, "_rebuild_parameter is not called with a tensor");
      }
      return parts[0];
    case kRebuildCast:
      if (parts.size() < 2 || tensor(parts[0]) == nullptr || !is_global(parts[1], kDType)) {
        machine.fail(at, "a tensor of a device is not rebuilt from a tensor and a dtype");
      }
      if (tensor(parts[0])->dtype == static_cast<DType>(parts[1].payload)) return parts[0];
      return unread(kCast, at);
    case kRebuildUnread:
      return unread(kGlobals[callable.payload].unread, at);
    case kRebuildFromType:
      return rebuild_from_type(machine, parts, at);
    default:
      machine.fail(at, "the pickle calls a class that may only be named: refused");
  }
}

// The arguments are (function, class, arguments of the function, attributes).
PickleValue TorchHost::rebuild_from_type(PickleMachine& machine, std::span<const PickleValue> parts,
                                         std::uint32_t at) {
  const auto rebuilds = [](PickleValue function) {
    return is_global(function, kRebuild) || is_global(function, kRebuildTyped) ||
           is_global(function, kRebuildParameter) || is_global(function, kRebuildUnread);
  };
  if (parts.size() == 4 && rebuilds(parts[0]) &&
      (is_global(parts[1], kTensorClass) || is_global(parts[1], kParameterClass)) &&
      parts[2].kind == PickleKind::kTuple) {
    return reduce(machine, parts[0], parts[2], at);
  }
  machine.fail(at, "_rebuild_from_type_v2 is called for something that is not a plain tensor");
}

// The arguments are (storage, offset, shape, strides, requires_grad, backward_hooks[, dtype][,
// metadata]).
PickleValue TorchHost::rebuild(PickleMachine& machine, std::span<const PickleValue> arguments,
                               std::size_t least, bool typed, std::uint32_t at) {
  const std::size_t plain = typed ? 7 : 6;  // how many there are without metadata
  if (arguments.size() < least || arguments.size() > plain + 1) {
    machine.fail(at, "a tensor is rebuilt from " + std::to_string(arguments.size()) + " arguments");
  }
  const PickleValue of = arguments[0];
  if (of.kind != PickleKind::kHost || of.host_kind != kStorageObject) {
    machine.fail(at, "a tensor is rebuilt from something that is not a storage");
  }
  const auto offset = count_of(arguments[1]);
  if (!offset) machine.fail(at, "a tensor's storage offset is not a count");
  if (arguments[2].kind != PickleKind::kTuple || arguments[3].kind != PickleKind::kTuple) {
    machine.fail(at, "a tensor's shape or strides are not a tuple");
  }
  const TorchStorage& storage = storages_[of.payload];
  std::optional<DType> dtype = storage.dtype;
  if (typed) {
    if (is_global(arguments[6], kUnreadDType)) {
      return unread(kUnknownType, at, kGlobals[arguments[6].payload].unread);
    }
    if (!is_global(arguments[6], kDType)) machine.fail(at, "a tensor's dtype is not a dtype");
    dtype = static_cast<DType>(arguments[6].payload);
  } else if (!storage.type.empty()) {
    return unread(kUnknownType, at, storage.type);
  }
  if (!dtype) machine.fail(at, "a tensor without a dtype is rebuilt from an untyped storage");
  TorchTensor tensor;
  tensor.storage = static_cast<std::uint32_t>(of.payload);
  tensor.dtype = *dtype;
  tensor.offset = *offset;
  tensor.shape = arguments[2];
  tensor.strides = arguments[3];
  if (arguments.size() > plain) tensor.metadata = arguments[plain];
  tensor.at = at;
  return add(tensor);
}

const TorchTensor* TorchHost::tensor(PickleValue value) const {
  if (value.kind != PickleKind::kHost || value.host_kind != kTensorObject) return nullptr;
  return &tensors_[value.payload];
}

}  // namespace berth
