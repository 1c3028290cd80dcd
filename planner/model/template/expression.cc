// Evaluates expressions. expression_parser.cc parses them.

#include "planner/model/template/expression.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {

class Evaluator {
 public:
  Evaluator(const Expression& expression, Scope& scope) : expression_(expression), scope_(scope) {}

  ExprValue value(std::uint32_t index) const {
    const Expression::Node& node = expression_.nodes_[index];
    switch (node.op) {
      case Op::kLiteral:
        return node.literal;
      case Op::kName:
        return scope_.value_of(node.name);
      case Op::kSubscript:
        return element(node);
      case Op::kLen:
        return length(node.name);
      case Op::kContains:
        return contains(node);
      case Op::kNot:
        return !truth(value(node.operands[0]));
      case Op::kAnd:
        return truth(value(node.operands[0])) && truth(value(node.operands[1]));
      case Op::kOr:
        return truth(value(node.operands[0])) || truth(value(node.operands[1]));
      case Op::kIf:
        return value(node.operands[truth(value(node.operands[0])) ? 1 : 2]);
      case Op::kCoalesce: {
        ExprValue left = value(node.operands[0]);
        const auto* null = std::get_if<Null>(&left);
        if (null == nullptr) return left;
        ExprValue right = value(node.operands[1]);
        if (expression_.nodes_[node.operands[1]].op == Op::kLiteral) {
          scope_.fall_back(null->name, right);
        }
        return right;
      }
      case Op::kNegate:
        return arithmetic(Op::kSubtract, std::int64_t{0}, value(node.operands[0]));
      case Op::kInt:
        return truncated(value(node.operands[0]));
      case Op::kIsqrt:
        return root(value(node.operands[0]));
      case Op::kHas:
        return scope_.has(node.name);
      case Op::kOneOf:
        return one_of(node);
      case Op::kEqual:
        return equal(value(node.operands[0]), value(node.operands[1]));
      case Op::kNotEqual:
        return !equal(value(node.operands[0]), value(node.operands[1]));
      default:
        return arithmetic(node.op, value(node.operands[0]), value(node.operands[1]));
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(what + " in " + quote(expression_.text()));
  }
  [[noreturn]] void fail_type(const ExprValue& found, const std::string& wanted) const {
    if (const auto* null = std::get_if<Null>(&found)) {
      fail((null->name.empty() ? "a value" : null->name) + " is missing");
    }
    fail("a value is not " + wanted);
  }
  bool truth(const ExprValue& found) const {
    if (const auto* flag = std::get_if<bool>(&found)) return *flag;
    fail_type(found, "true or false");
  }

 private:
  using Op = Expression::Op;

  // The letters of a string; nothing for another value.
  std::optional<std::vector<ExprValue>> letters(const std::string& name) const {
    const ExprValue value = scope_.value_of(name);
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return std::nullopt;
    std::vector<ExprValue> out;
    for (const char letter : *text) out.emplace_back(std::string(1, letter));
    return out;
  }

  // An absent list has no elements.
  std::int64_t length(const std::string& name) const {
    if (const auto* found = scope_.list_of(name)) return static_cast<std::int64_t>(found->size());
    const auto text = letters(name);
    return text ? static_cast<std::int64_t>(text->size()) : 0;
  }

  // All elements of an absent list are absent, so that `layer_types[layer] ?? ...` works.
  ExprValue element(const Expression::Node& node) const {
    const auto* found = scope_.list_of(node.name);
    const auto text = found == nullptr ? letters(node.name) : std::nullopt;
    if (text) found = &*text;
    if (found == nullptr) return Null{node.name};
    const ExprValue index = value(node.operands[0]);
    const auto* whole = std::get_if<std::int64_t>(&index);
    if (whole == nullptr) fail_type(index, "an integer");
    if (*whole < 0 || static_cast<std::uint64_t>(*whole) >= found->size()) {
      fail(node.name + " has " + std::to_string(found->size()) + " elements, number " +
           std::to_string(*whole) + " is asked for");
    }
    if (const auto* below = std::get_if<std::string>(&node.literal)) {
      return scope_.value_of(node.name + "." + std::to_string(*whole) + *below);
    }
    return (*found)[static_cast<std::size_t>(*whole)];
  }

  // An absent list contains nothing.
  bool contains(const Expression::Node& node) const {
    const auto* found = scope_.list_of(node.name);
    const auto text = found == nullptr ? letters(node.name) : std::nullopt;
    if (text) found = &*text;
    if (found == nullptr) return false;
    const ExprValue wanted = value(node.operands[0]);
    for (const ExprValue& candidate : *found) {
      if (equal(candidate, wanted)) return true;
    }
    return false;
  }

  // The value of a node, which must be among `words`, "a|b|c".
  ExprValue one_of(const Expression::Node& node) const {
    const auto& words = std::get<std::string>(node.literal);
    ExprValue found = value(node.operands[0]);
    const auto* text = std::get_if<std::string>(&found);
    if (text == nullptr) fail_type(found, "a string");
    const bool plain = !text->empty() && text->find('|') == text->npos;
    if (plain && ("|" + words + "|").find("|" + *text + "|") != words.npos) return found;
    std::string listed;
    for (const char c : words) listed += c == '|' ? std::string(", ") : std::string(1, c);
    throw Error(said_by(node.operands[0]) + ": " + quote(*text) + " is none of " + listed);
  }

  // The name of the config that a value came from: the first one in the expression that is there.
  std::string said_by(std::uint32_t index) const {
    const Expression::Node& node = expression_.nodes_[index];
    if (!node.name.empty()) return scope_.has(node.name) ? node.name : "";
    for (const std::uint32_t operand : node.operands) {
      const std::string name = operand < index ? said_by(operand) : "";
      if (!name.empty()) return name;
    }
    return "";
  }

  static bool is_number(const ExprValue& v) {
    return std::holds_alternative<std::int64_t>(v) || std::holds_alternative<double>(v);
  }
  static double real(const ExprValue& v) {
    const auto* whole = std::get_if<std::int64_t>(&v);
    return whole != nullptr ? static_cast<double>(*whole) : std::get<double>(v);
  }
  static bool equal(const ExprValue& a, const ExprValue& b) {
    if (a.index() != b.index() && is_number(a) && is_number(b)) return real(a) == real(b);
    return a == b;
  }

  ExprValue truncated(const ExprValue& v) const {
    if (std::holds_alternative<std::int64_t>(v)) return v;
    const auto* number = std::get_if<double>(&v);
    if (number == nullptr) fail_type(v, "a number");
    if (!(std::abs(*number) < 9e18)) fail("a number is out of range");
    return static_cast<std::int64_t>(*number);
  }

  ExprValue root(const ExprValue& v) const {
    const auto* whole = std::get_if<std::int64_t>(&v);
    if (whole == nullptr || *whole < 0) fail_type(v, "a whole number");
    auto out = static_cast<std::int64_t>(std::sqrt(static_cast<double>(*whole)));
    while (out > 0 && out > *whole / out) --out;  // a double rounds large squares
    return out;
  }

  ExprValue arithmetic(Op op, const ExprValue& a, const ExprValue& b) const {
    if (!is_number(a)) fail_type(a, "a number");
    if (!is_number(b)) fail_type(b, "a number");
    const auto* left = std::get_if<std::int64_t>(&a);
    const auto* right = std::get_if<std::int64_t>(&b);
    if (left != nullptr && right != nullptr && op != Op::kDivide) return whole(op, *left, *right);
    return fractional(op, real(a), real(b));
  }

  ExprValue whole(Op op, std::int64_t a, std::int64_t b) const {
    std::int64_t out = 0;
    bool overflow = false;
    switch (op) {
      case Op::kAdd:
        overflow = __builtin_add_overflow(a, b, &out);
        break;
      case Op::kSubtract:
        overflow = __builtin_sub_overflow(a, b, &out);
        break;
      case Op::kMultiply:
        overflow = __builtin_mul_overflow(a, b, &out);
        break;
      case Op::kFloorDivide:
      case Op::kModulo: {
        if (b == 0) fail("division by zero");
        if (b == -1) {  // the smallest integer divided by -1 overflows
          if (op == Op::kModulo) return std::int64_t{0};
          overflow = __builtin_sub_overflow(std::int64_t{0}, a, &out);
          break;
        }
        const std::int64_t quotient = a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
        out = op == Op::kFloorDivide ? quotient : a - quotient * b;
        break;
      }
      case Op::kMin:
        return std::min(a, b);
      case Op::kMax:
        return std::max(a, b);
      case Op::kLess:
        return a < b;
      case Op::kLessEqual:
        return a <= b;
      case Op::kGreater:
        return a > b;
      default:
        return a >= b;
    }
    if (overflow) fail("a number overflows 64 bits");
    return out;
  }

  ExprValue fractional(Op op, double a, double b) const {
    switch (op) {
      case Op::kAdd:
        return a + b;
      case Op::kSubtract:
        return a - b;
      case Op::kMultiply:
        return a * b;
      case Op::kDivide:
      case Op::kFloorDivide:
      case Op::kModulo:
        if (b == 0) fail("division by zero");
        if (op == Op::kDivide) return a / b;
        return op == Op::kFloorDivide ? std::floor(a / b) : a - std::floor(a / b) * b;
      case Op::kMin:
        return std::min(a, b);
      case Op::kMax:
        return std::max(a, b);
      case Op::kLess:
        return a < b;
      case Op::kLessEqual:
        return a <= b;
      case Op::kGreater:
        return a > b;
      default:
        return a >= b;
    }
  }

  const Expression& expression_;
  Scope& scope_;
};

ExprValue Expression::evaluate(Scope& scope) const {
  // Fast path: most expressions are a single number or name.
  if (nodes_.size() == 1 && nodes_[0].op == Op::kLiteral) return nodes_[0].literal;
  return Evaluator(*this, scope).value(root_);
}

std::int64_t Expression::integer(Scope& scope) const {
  const ExprValue value = evaluate(scope);
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return *whole;
  if (const auto* real = std::get_if<double>(&value)) {
    if (std::abs(*real) < 9e15 && std::floor(*real) == *real) {
      return static_cast<std::int64_t>(*real);
    }
  }
  Evaluator(*this, scope).fail_type(value, "an integer");
}

bool Expression::boolean(Scope& scope) const {
  return Evaluator(*this, scope).truth(evaluate(scope));
}

}  // namespace berth
