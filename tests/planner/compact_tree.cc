#include "tests/planner/compact_tree.h"

#include <stdexcept>

namespace berth {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;

std::string text(element e) { return std::string(e.get_string().value()); }

// "h.3..5" -> "h.3", "h.4", "h.5"
std::vector<std::string> expand(const std::string& name) {
  const std::size_t dots = name.find("..");
  if (dots == std::string::npos) return {name};
  const std::size_t stem = name.rfind('.', dots - 1);
  const std::size_t digits = stem == std::string::npos ? 0 : stem + 1;
  const int first = std::stoi(name.substr(digits, dots - digits));
  const int last = std::stoi(name.substr(dots + 2));
  std::vector<std::string> names;
  for (int i = first; i <= last; ++i) names.push_back(name.substr(0, digits) + std::to_string(i));
  return names;
}

void add_tensors(ModelTree& tree, ModuleId module, array tensors, bool buffers) {
  for (element t : tensors) {
    Shape shape;
    for (element d : t.at(2).get_array()) shape.push_back(d.get_uint64().value());
    add_tensor(tree, module, text(t.at(0)), parse_dtype(text(t.at(1))).value(), shape, buffers);
  }
}

void add_node(ModelTree& tree, ModuleId parent, element node,
              const std::vector<std::string>& no_split) {
  for (const std::string& name : expand(text(node.at(0)))) {
    const std::string cls = text(node.at(1));
    bool whole = false;
    for (const std::string& c : no_split) whole = whole || c == cls;
    const ModuleId module = add_module(tree, parent, name, cls, whole);
    add_tensors(tree, module, node.at(2).get_array(), false);
    add_tensors(tree, module, node.at(3).get_array(), true);
    for (element child : node.at(4).get_array()) add_node(tree, module, child, no_split);
  }
}

std::vector<Budget> budgets(array list) {
  std::vector<Budget> out;
  for (element pair : list) out.push_back({text(pair.at(0)), pair.at(1).get_uint64().value()});
  return out;
}

}  // namespace

ModuleId add_module(ModelTree& tree, ModuleId parent, const std::string& name,
                    const std::string& cls, bool no_split) {
  const auto id = static_cast<ModuleId>(tree.modules.size());
  Module module;
  module.cls = tree.names.add(cls);
  module.no_split = no_split;
  module.parent = tree.modules.empty() ? kNone : parent;
  if (module.parent != kNone) {
    module.name = tree.names.join(tree.modules[parent].name, name);
    tree.modules[parent].children.push_back(id);
  }
  tree.modules.push_back(module);
  return id;
}

TensorId add_tensor(ModelTree& tree, ModuleId module, const std::string& name, DType dtype,
                    Shape shape, bool buffer) {
  ModelTensor tensor;
  tensor.name = tree.names.join(tree.modules[module].name, name);
  tensor.stored = tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.module = module;
  tensor.buffer = buffer;
  tree.tensors.push_back(std::move(tensor));
  const auto id = static_cast<TensorId>(tree.tensors.size() - 1);
  tree.modules[module].tensors.push_back(id);
  return id;
}

TensorId tensor_id(const ModelTree& tree, const std::string& name) {
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    if (tree.tensors[t].name == name) return t;
  }
  throw std::runtime_error("no tensor " + name);
}

void tie_tensors(ModelTree& tree, const std::vector<std::string>& names) {
  std::vector<TensorId> group;
  for (const std::string& name : names) group.push_back(tensor_id(tree, name));
  for (std::size_t i = 1; i < group.size(); ++i) tree.tensors[group[i]].tied_to = group[0];
  tree.ties.push_back(group);
}

std::vector<CompactModel> read_compact_models(const std::string& file) {
  simdjson::dom::parser parser;
  std::vector<CompactModel> models;
  for (element entry : parser.load(file).get_array()) {
    CompactModel model;
    model.tree.name = text(entry["name"]);
    std::vector<std::string> no_split;
    for (element c : entry["no_split"].get_array()) no_split.push_back(text(c));
    add_node(model.tree, 0, entry["root"], no_split);
    for (element group : entry["ties"].get_array()) {
      std::vector<std::string> names;
      for (element name : group.get_array()) names.push_back(text(name));
      tie_tensors(model.tree, names);
    }
    for (element c : entry["cases"].get_array()) {
      CompactCase one;
      one.name = text(c.at(0));
      one.policy = parse_policy(text(c.at(1))).value();
      one.max_memory = budgets(c.at(2).get_array());
      one.balanced_memory = budgets(c.at(3).get_array());
      for (element pair : c.at(4).get_array()) {
        for (const std::string& key : expand(text(pair.at(0)))) {
          one.device_map.push_back({key, text(pair.at(1))});
        }
      }
      model.cases.push_back(std::move(one));
    }
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace berth
