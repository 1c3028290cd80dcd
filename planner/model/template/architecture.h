// Architecture templates: the modules of a model family as data, from configs/architectures.
//
// configs/architectures/README.md says what each key of a template means. Here a template is read,
// its chain of `extends` is merged, and every expression is parsed. build.cc builds trees from
// templates.
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
  std::optional<DType> dtype;  // fixed by the template; else the checkpoint's or the config's
  bool buffer = false;
  bool persistent = true;
};

struct ModuleSpec {
  std::string name;  // last component of the name; unused in the item of a repetition
  std::string cls;
  std::optional<Expression> when;
  // If set, the first of `modules` whose `when` holds is the item, built n times as 0..n-1.
  std::optional<Expression> repeat;
  std::string index;         // the expressions in the item know its number by this name
  int stage = 0;             // Module::stage
  bool prompt_only = false;  // Module::prompt_only
  bool expert = false;
  std::vector<TensorSpec> tensors;
  std::vector<ModuleSpec> modules;
};

struct Architecture {
  struct Rename {
    std::string from;
    std::string to;
    bool at_start = false;  // only where a name begins with it
  };

  struct Tie {
    Expression when;
    std::vector<std::string> tensors;  // share storage; the first one registered counts
  };

  std::string file;  // for messages
  std::string model_type;
  std::string cls;
  std::vector<std::string> no_split;
  std::vector<Tie> ties;
  // What the family's configuration class in transformers adds to a config.json.
  std::map<std::string, std::string, std::less<>> aliases;  // other name of a key: the key
  std::map<std::string, Expression, std::less<>> defaults;  // of keys that are left out
  std::vector<std::string> nullable;  // keys with a default that may be null: none
  std::map<std::string, std::string, std::less<>> rope_types;  // older name of a type: the name
  std::map<std::string, Expression, std::less<>> unused;  // key: when it is said and has no effect
  std::vector<Expression> demands;                        // without which it refuses a config
  std::map<std::string, Expression, std::less<>> lets;
  std::vector<ModuleSpec> modules;
  std::vector<TensorSpec> tensors;          // of the root itself
  std::vector<Rename> renames;              // applied to stored names, substring by substring
  std::vector<std::string> prefixes;        // prefixes that stored names may lack
  std::vector<std::string> extra_prefixes;  // that they may have, and the tree has not
  std::vector<std::string> predicted;       // globs of those of multi-token prediction
  std::vector<std::string> ignored;  // globs of stored names; {expression} is replaced by its value
  std::map<std::string, DType, std::less<>> fp8_dtypes;  // by last name: as FP8 releases store it
  std::map<std::string, Expression, std::less<>> facts;
  std::string embedding;  // module names
  std::string head;
  std::string layers;
};

// The template of a family, or null if there is none. `cls` is the model's class as config.json's
// `architectures` names it: the template's own class; its base without a head, such as LlamaModel;
// or one with another of the template's heads. Any other name stands for the template's own class.
// `inner`: the model_type of its text_config. A family may have a template of its own for either:
// "t5+T5EncoderModel", "mistral3+ministral3". Throws Error (file, line, field) if the template is
// not well-formed.
std::unique_ptr<Architecture> find_architecture(std::string_view model_type,
                                                std::string_view cls = "",
                                                std::string_view inner = "");

}  // namespace berth
