// A module tree written as JSON: {"root": node, "no_split_classes": [..], "ties": [[name, ..],
// ..]}; a node has name, cls, params, buffers and children, in registration order.

#include "planner/model/open/tree_json.h"

#include <simdjson.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

namespace dom = simdjson::dom;

constexpr std::uint64_t kFileLimit = 512u << 20;
constexpr int kDepthLimit = 200;

class TreeReader {
 public:
  TreeReader(std::string source, std::optional<DType> dtype)
      : source_(std::move(source)), wanted_(dtype) {}

  ModelTree read(std::string_view json) {
    dom::parser parser;
    dom::element document;
    if (auto error = parser.parse(simdjson::padded_string(json)).get(document)) {
      fail("", std::string("not valid JSON: ") + simdjson::error_message(error));
    }
    for (const dom::element name : list(document, "no_split_classes", "")) {
      no_split_.emplace(text(name, "no_split_classes"));
    }
    read_node(member(document, "root", ""), kNone, "root", 0);
    check_total();
    read_ties(list(document, "ties", ""));
    return std::move(tree_);
  }

 private:
  [[noreturn]] void fail(const std::string& field, const std::string& what) const {
    throw Error(source_ + ": " + (field.empty() ? "" : field + ": ") + what);
  }

  dom::element member(dom::element object, const char* key, const std::string& field) const {
    dom::element out;
    if (object[key].get(out)) {
      fail(field, object.is_object() ? quote(key) + " is missing" : "not an object");
    }
    return out;
  }
  // An absent list is an empty one.
  dom::array list(dom::element object, const char* key, const std::string& field) const {
    static dom::parser none;
    dom::element value;
    dom::array out;
    if (!object.is_object()) fail(field, "not an object");
    if (object[key].get(value)) value = none.parse("[]", 2).value_unsafe();
    if (value.get_array().get(out)) fail(field + (field.empty() ? "" : ".") + key, "not a list");
    return out;
  }
  std::string_view text(dom::element value, const std::string& field) const {
    std::string_view out;
    if (value.get_string().get(out)) fail(field, "not a string");
    return out;
  }

  void read_node(dom::element node, ModuleId parent, const std::string& field, int depth) {
    if (depth > kDepthLimit) fail(field, "nested deeper than " + std::to_string(kDepthLimit));
    const std::string_view name = text(member(node, "name", field), field + ".name");
    const std::string_view cls = text(member(node, "cls", field), field + ".cls");
    if (parent == kNone ? !name.empty() : name.empty() || name.find('.') != name.npos) {
      fail(field + ".name", parent == kNone ? "the root's name must be empty"
                                            : quote(name) + " is not a plain name");
    }
    const ModuleId id = add_module(tree_, parent, name, tree_.names.add(cls));
    tree_.modules[id].no_split = no_split_.contains(cls);
    read_tensors(node, "params", id, field);
    read_tensors(node, "buffers", id, field);
    std::size_t number = 0;
    for (const dom::element child : list(node, "children", field)) {
      const std::string position = field + ".children[" + std::to_string(number++) + "]";
      read_node(child, id, position, depth + 1);
      const Name full = tree_.modules[tree_.modules[id].children.back()].name;
      if (!child_names_.insert(full).second) {
        fail(position + ".name", quote(full) + " appears twice");
      }
    }
  }

  void read_tensors(dom::element node, const char* key, ModuleId module, const std::string& field) {
    std::size_t number = 0;
    for (const dom::element entry : list(node, key, field)) {
      const std::string position = field + "." + key + "[" + std::to_string(number++) + "]";
      const std::string_view name = text(member(entry, "name", position), position + ".name");
      const std::string_view type = text(member(entry, "dtype", position), position + ".dtype");
      const auto dtype = parse_dtype(type);
      if (!dtype) fail(position + ".dtype", "unknown dtype " + quote(type));
      ModelTensor tensor;
      tensor.name = tree_.names.join(tree_.modules[module].name, name);
      tensor.stored = *dtype;
      tensor.dtype = memory_dtype(*dtype, wanted_);
      tensor.module = module;
      tensor.buffer = std::string_view(key) == "buffers";
      for (const dom::element size : list(entry, "shape", position)) {
        std::uint64_t value = 0;
        if (size.get_uint64().get(value)) {
          fail(position + ".shape", "not all non-negative integers");
        }
        tensor.shape.push_back(value);
      }
      if (!tensor_bytes(*dtype, tensor.shape))
        fail(position + ".shape", "not a whole number of bytes");
      const Name full = tensor.name;
      try {
        add_tensor(tree_, std::move(tensor));
      } catch (const Error& error) {
        fail(position, error.what());
      }
      const auto id = static_cast<TensorId>(tree_.tensors.size() - 1);
      if (!tensor_ids_.emplace(full, id).second) fail(position, quote(full) + " appears twice");
    }
  }

  void check_total() const {
    std::uint64_t total = 0;
    for (const ModelTensor& tensor : tree_.tensors) {
      if (__builtin_add_overflow(total, *tensor_bytes(DType::kF64, tensor.shape), &total) ||
          total >> 62 != 0) {
        fail("", "the sizes of all tensors together overflow");
      }
    }
  }

  void read_ties(dom::array groups) {
    std::set<TensorId> tied;
    std::size_t number = 0;
    for (const dom::element group : groups) {
      const std::string field = "ties[" + std::to_string(number++) + "]";
      dom::array names;
      if (group.get_array().get(names)) fail(field, "not a list");
      std::vector<TensorId> ids;
      for (const dom::element name : names) {
        const auto found = tensor_ids_.find(text(name, field));
        if (found == tensor_ids_.end()) fail(field, "no tensor " + quote(text(name, field)));
        if (!tied.insert(found->second).second) fail(field, quote(found->first) + " is tied twice");
        ids.push_back(found->second);
      }
      if (ids.size() < 2) continue;
      std::ranges::sort(ids);  // the first registered holds the bytes
      for (const TensorId id : ids) {
        const ModelTensor& first = tree_.tensors[ids[0]];
        if (tree_.tensors[id].shape != first.shape || tree_.tensors[id].stored != first.stored) {
          fail(field, quote(first.name) + " and " + quote(tree_.tensors[id].name) +
                          " differ in shape or dtype");
        }
      }
      tie(tree_, std::move(ids));
    }
  }

  std::string source_;
  std::optional<DType> wanted_;
  std::set<std::string, std::less<>> no_split_;
  std::set<std::string_view> child_names_;
  std::unordered_map<std::string_view, TensorId> tensor_ids_;
  ModelTree tree_;
};

}  // namespace

ModelTree read_tree_json(const std::filesystem::path& file, std::optional<DType> dtype) {
  ModelTree tree = TreeReader(file.string(), dtype).read(read_text_file(file, kFileLimit));
  tree.name = file.stem().string();
  return tree;
}

}  // namespace berth
