// Readers of what stands under the keys of a template (configs/architectures/README.md), but for
// its modules. All throw Error with the position of a value that is not well-formed.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "planner/base/yaml.h"
#include "planner/model/template/expression.h"

namespace berth {

Expression expression(const YamlValue& value);
// `count`: how many sizes are expected; 0: any number.
std::vector<Expression> expressions(const YamlValue& value, std::size_t count = 0);
std::vector<std::string> texts(const YamlValue& value);
// A value that is no list counts as one.
std::vector<YamlValue> one_or_more(const YamlValue& value);
void read_names(const YamlValue& value, std::map<std::string, std::string, std::less<>>& out);
void read_expressions(const YamlValue& value, std::map<std::string, Expression, std::less<>>& out);

}  // namespace berth
