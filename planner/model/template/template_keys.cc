#include "planner/model/template/template_keys.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "planner/base/position.h"

namespace berth {

Expression expression(const YamlValue& value) {
  return with_position(value, [&] { return Expression(value.as_text()); });
}

std::vector<Expression> expressions(const YamlValue& value, std::size_t count) {
  std::vector<Expression> out;
  for (const YamlValue& entry : value.as_list()) out.push_back(expression(entry));
  if (count != 0 && out.size() != count) {
    value.fail(std::to_string(count) + " sizes are expected");
  }
  return out;
}

std::vector<std::string> texts(const YamlValue& value) {
  std::vector<std::string> out;
  for (const YamlValue& entry : value.as_list()) out.push_back(entry.as_text());
  return out;
}

std::vector<YamlValue> one_or_more(const YamlValue& value) {
  return value.is_list() ? value.as_list() : std::vector<YamlValue>{value};
}

void read_names(const YamlValue& value, std::map<std::string, std::string, std::less<>>& out) {
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    out.insert_or_assign(key, map.require(key).as_text());
  }
}

void read_expressions(const YamlValue& value, std::map<std::string, Expression, std::less<>>& out) {
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    out.insert_or_assign(key, expression(map.require(key)));
  }
}

}  // namespace berth
