// A module tree written as JSON: {"root": node, "no_split_classes": [..], "ties": [[name, ..],
// ..]}; a node has name, cls, params, buffers and children, in registration order.

#include "planner/model/open/tree_json.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <vector>

#include "planner/base/input_file.h"
#include "planner/base/json_value.h"
#include "planner/base/position.h"
#include "planner/base/quote.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

constexpr std::uint64_t kFileLimit = 512u << 20;
constexpr int kDepthLimit = 200;

class TreeReader {
 public:
  explicit TreeReader(std::optional<DType> dtype) : wanted_(dtype) {}

  ModelTree read(const JsonValue& file) {
    for (const JsonValue& name : list(file, "no_split_classes")) no_split_.emplace(name.text());
    read_node(file.require("root"), kNone, 0);
    check_total(file);
    read_ties(list(file, "ties"));
    return std::move(tree_);
  }

 private:
  // An absent list is an empty one.
  static std::vector<JsonValue> list(const JsonValue& object, std::string_view key) {
    const auto value = object.get(key);
    return value ? value->list() : std::vector<JsonValue>();
  }

  // The text of a member. Most of a tree is texts: that of `require(key)`, which also works out
  // where it stands, takes several times as long, so only a mistake asks for it.
  static std::string_view text(const JsonValue& object, std::string_view key) {
    const auto found = object.find<std::string_view>(key);
    return found ? *found : object.require(key).text();
  }
  [[noreturn]] static void fail_name(const JsonValue& node, const std::string& message) {
    node.require("name").fail(message);
  }

  void read_node(const JsonValue& node, ModuleId parent, int depth) {
    if (depth > kDepthLimit) node.fail("nested deeper than " + std::to_string(kDepthLimit));
    const std::string_view name = text(node, "name");
    const std::string_view cls = text(node, "cls");
    if (parent == kNone && !name.empty()) fail_name(node, "the root's name must be empty");
    if (parent != kNone && (name.empty() || name.find('.') != name.npos)) {
      fail_name(node, quote(name) + " is not a plain name");
    }
    const ModuleId id = add_module(tree_, parent, name, tree_.names.add(cls));
    tree_.modules[id].no_split = no_split_.contains(cls);
    if (parent != kNone) {
      const Name full = tree_.modules[id].name;
      if (!child_names_.insert(full).second) fail_name(node, quote(full) + " appears twice");
    }
    for (const JsonValue& entry : list(node, "params")) read_tensor(entry, id, false);
    for (const JsonValue& entry : list(node, "buffers")) read_tensor(entry, id, true);
    for (const JsonValue& child : list(node, "children")) read_node(child, id, depth + 1);
  }

  void read_tensor(const JsonValue& entry, ModuleId module, bool buffer) {
    const std::string_view name = text(entry, "name");
    const std::string_view type = text(entry, "dtype");
    const auto dtype = parse_dtype(type);
    if (!dtype) entry.require("dtype").fail("unknown dtype " + quote(type));
    ModelTensor tensor;
    tensor.name = tree_.names.join(tree_.modules[module].name, name);
    tensor.stored = *dtype;
    tensor.dtype = memory_dtype(*dtype, wanted_);
    tensor.module = module;
    tensor.buffer = buffer;
    for (const JsonValue& size : list(entry, "shape")) {
      tensor.shape.push_back(size.unsigned_integer());
    }
    if (!tensor_bytes(*dtype, tensor.shape)) {
      entry.require("shape").fail("not a whole number of bytes");
    }
    const Name full = tensor.name;
    with_position(entry, [&] { add_tensor(tree_, std::move(tensor)); });
    const auto id = static_cast<TensorId>(tree_.tensors.size() - 1);
    if (!tensor_ids_.emplace(full, id).second) entry.fail(quote(full) + " appears twice");
  }

  void check_total(const JsonValue& file) const {
    std::uint64_t total = 0;
    for (const ModelTensor& tensor : tree_.tensors) {
      if (__builtin_add_overflow(total, *tensor_bytes(DType::kF64, tensor.shape), &total) ||
          total >> 62 != 0) {
        file.fail("the sizes of all tensors together overflow");
      }
    }
  }

  void read_ties(const std::vector<JsonValue>& groups) {
    std::set<TensorId> tied;
    for (const JsonValue& group : groups) {
      std::vector<TensorId> ids;
      for (const JsonValue& name : group.list()) {
        const auto found = tensor_ids_.find(name.text());
        if (found == tensor_ids_.end()) group.fail("no tensor " + quote(name.text()));
        if (!tied.insert(found->second).second) group.fail(quote(found->first) + " is tied twice");
        ids.push_back(found->second);
      }
      if (ids.size() < 2) continue;
      std::ranges::sort(ids);  // the first registered holds the bytes
      for (const TensorId id : ids) {
        const ModelTensor& first = tree_.tensors[ids[0]];
        if (tree_.tensors[id].shape != first.shape || tree_.tensors[id].stored != first.stored) {
          group.fail(quote(first.name) + " and " + quote(tree_.tensors[id].name) +
                     " differ in shape or dtype");
        }
      }
      tie(tree_, std::move(ids));
    }
  }

  std::optional<DType> wanted_;
  std::set<std::string, std::less<>> no_split_;
  std::set<std::string_view> child_names_;
  std::unordered_map<std::string_view, TensorId> tensor_ids_;
  ModelTree tree_;
};

}  // namespace

ModelTree read_tree_json(const std::filesystem::path& file, std::optional<DType> dtype) {
  const JsonDocument document(read_text_file(file, kFileLimit), file.string());
  ModelTree tree = TreeReader(dtype).read(document.root());
  tree.name = file.stem().string();
  return tree;
}

}  // namespace berth
