// The small language in which templates express shapes, counts and conditions by config keys:
//   (num_key_value_heads ?? num_attention_heads) * head_dim
//   layer >= first_k_dense_replace and (layer + 1) % decoder_sparse_step == 0
//
// Operators, from those that bind loosest to those that bind tightest: `a if c else b`, or, and,
// not, comparisons, ?? (the left side unless it is null), + -, * // / %, unary minus, calls and
// subscripts. Values are null (an absent name), true and false, 64-bit integers, numbers with a
// point, and 'strings'. A list can only be used by its name: list[i], list[i].key for one of
// objects, len(list), contains(list, x), has(x), which is false only where the config has nothing
// of this name. A string that a name stands for is a list of its letters there. The functions are
// min, max, int, which rounds toward zero, isqrt, the root of a whole number, rounded down, and
// one_of(x, 'a|b'), which is x and an error if that is neither. Integer arithmetic is exact or
// throws Error; // rounds down. A dotted name is one name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "berth/error.h"

namespace berth {

// A null remembers the name that was absent, so that an error can report it.
struct Null {
  std::string name;
  bool operator==(const Null&) const { return true; }
};
using ExprValue = std::variant<Null, bool, std::int64_t, double, std::string>;

// Where names get their values. An absent name gives Null, an absent list a null pointer.
class Scope {
 public:
  virtual ~Scope() = default;
  virtual ExprValue value_of(std::string_view name) = 0;
  virtual const std::vector<ExprValue>* list_of(std::string_view name) = 0;
  // Whether a value, a list or an object of this name is there; a default is not.
  virtual bool has(std::string_view name) = 0;
  // Told that `name` was absent and that an expression has a value written out for it: `name ?? 4`.
  // May throw Error.
  virtual void fall_back(const std::string& /*name*/, const ExprValue& /*value*/) {}
};

// A parsed expression. It does not change, and is cheap to evaluate often.
class Expression {
 public:
  // Throws Error, quoting `text`, for bad syntax or nesting over 64 levels.
  explicit Expression(std::string_view text);

  // Throws Error for a missing name, a wrong type, a division by zero, or overflow of 64 bits.
  ExprValue evaluate(Scope& scope) const;
  std::int64_t integer(Scope& scope) const;  // throws Error if the value has another type
  bool boolean(Scope& scope) const;

  const std::string& text() const { return text_; }

 private:
  friend class ExpressionParser;
  friend class Evaluator;

  enum class Op : std::uint8_t {
    kLiteral,
    kName,
    kSubscript,
    kNegate,
    kNot,
    kAdd,
    kSubtract,
    kMultiply,
    kDivide,
    kFloorDivide,
    kModulo,
    kEqual,
    kNotEqual,
    kLess,
    kLessEqual,
    kGreater,
    kGreaterEqual,
    kCoalesce,
    kAnd,
    kOr,
    kIf,  // operands: condition, then, else
    kMin,
    kMax,
    kInt,
    kIsqrt,
    kLen,
    kContains,
    kHas,
    kOneOf,  // operand: value; the literal holds what it may be
  };
  struct Node {
    Op op = Op::kLiteral;
    ExprValue literal;               // kLiteral; kSubscript: ".key" of an object in the list
    std::string name;                // kName, kSubscript, kLen, kContains, kHas
    std::uint32_t operands[3] = {};  // indices into nodes_
  };

  std::string text_;
  std::vector<Node> nodes_;
  std::uint32_t root_ = 0;
};

}  // namespace berth
