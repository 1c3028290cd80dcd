// Architecture templates: the modules of a model family as data, from configs/architectures.
//
// What each key of a template means is said in configs/architectures/README.md. Here a template is
// read, its `extends` chain folded, and every expression parsed; building trees is build.cc's job.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/tensor.h"
#include "planner/model/template/expression.h"

namespace berth {

struct TensorSpec {
  std::string name;
  std::vector<Expression> shape;
  std::optional<Expression> when;
  std::optional<DType> dtype;  // fixed; else the checkpoint's or the config's
  bool buffer = false;
  bool persistent = true;
};

struct ModuleSpec {
  std::string name;  // last component; unused in the item of a repetition
  std::string cls;
  std::optional<Expression> when;
  std::optional<Expression> repeat;  // then `modules` is the one item, instantiated 0..n-1
  std::string index;                 // the item's number under this name
  int stage = 0;                     // Module::stage
  bool expert = false;
  std::vector<TensorSpec> tensors;
  std::vector<ModuleSpec> modules;
};

struct Architecture {
  struct Rename {
    std::string from;
    std::string to;
  };

  std::string file;  // for messages
  std::string model_type;
  std::string cls;
  std::vector<std::string> no_split;
  std::optional<Expression> tie_when;
  std::vector<std::string> tie;  // names that share storage, first registered first
  std::map<std::string, Expression, std::less<>> lets;
  std::vector<ModuleSpec> modules;
  std::vector<Rename> renames;        // in stored names, substring by substring
  std::vector<std::string> prefixes;  // that stored names may lack
  std::vector<std::string> ignored;   // globs of stored names; {expression} is filled in
  std::map<std::string, DType, std::less<>> fp8_dtypes;  // last names: as FP8 releases store them
  std::map<std::string, Expression, std::less<>> facts;
  std::string embedding;  // module names
  std::string head;
  std::string layers;
};

// The template of a family, or null where there is none. Throws Error (file, line, field) for a
// template that is not well-formed.
std::unique_ptr<Architecture> find_architecture(std::string_view model_type);

}  // namespace berth
