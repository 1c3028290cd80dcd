// Parses expressions by recursive descent, with one method for each level of precedence.

#include <cctype>
#include <charconv>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/template/expression.h"

namespace berth {

// Each method parses one level of precedence and returns the index of its node.
class ExpressionParser {
 public:
  explicit ExpressionParser(Expression& out) : out_(out), text_(out.text_) {}

  void parse() {
    out_.root_ = conditional();
    skip_spaces();
    if (at_ != text_.size()) fail("unexpected " + quote(text_.substr(at_, 8)));
  }

 private:
  using Op = Expression::Op;
  using Index = std::uint32_t;
  static constexpr int kDepthLimit = 64;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error("expression " + quote(text_) + ": " + what);
  }

  Index add(Op op, Index a = 0, Index b = 0, Index c = 0) {
    out_.nodes_.push_back({op, Null{}, "", {a, b, c}});
    return static_cast<Index>(out_.nodes_.size() - 1);
  }

  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.';
  }
  bool take(std::string_view symbol) {
    skip_spaces();
    if (!text_.substr(at_).starts_with(symbol)) return false;
    const std::size_t end = at_ + symbol.size();
    if (is_word(symbol.back()) && end < text_.size() && is_word(text_[end])) return false;
    at_ = end;
    return true;
  }
  void expect(std::string_view symbol) {
    if (!take(symbol)) fail("expected " + quote(symbol) + " at column " + std::to_string(at_ + 1));
  }

  Index conditional() {
    if (++depth_ > kDepthLimit) fail("nested too deeply");
    Index value = disjunction();
    if (take("if")) {
      const Index condition = disjunction();
      expect("else");
      const Index otherwise = conditional();
      value = add(Op::kIf, condition, value, otherwise);
    }
    --depth_;
    return value;
  }
  Index disjunction() {
    Index left = conjunction();
    while (take("or")) left = add(Op::kOr, left, conjunction());
    return left;
  }
  Index conjunction() {
    Index left = negation();
    while (take("and")) left = add(Op::kAnd, left, negation());
    return left;
  }
  Index negation() {
    if (!take("not")) return comparison();
    if (++depth_ > kDepthLimit) fail("nested too deeply");
    const Index operand = negation();
    --depth_;
    return add(Op::kNot, operand);
  }
  Index comparison() {
    const Index left = coalescence();
    if (take("==")) return add(Op::kEqual, left, coalescence());
    if (take("!=")) return add(Op::kNotEqual, left, coalescence());
    if (take("<=")) return add(Op::kLessEqual, left, coalescence());
    if (take(">=")) return add(Op::kGreaterEqual, left, coalescence());
    if (take("<")) return add(Op::kLess, left, coalescence());
    if (take(">")) return add(Op::kGreater, left, coalescence());
    return left;
  }
  Index coalescence() {
    Index left = sum();
    while (take("??")) left = add(Op::kCoalesce, left, sum());
    return left;
  }
  Index sum() {
    Index left = product();
    while (true) {
      if (take("+")) {
        left = add(Op::kAdd, left, product());
      } else if (take("-")) {
        left = add(Op::kSubtract, left, product());
      } else {
        return left;
      }
    }
  }
  Index product() {
    Index left = unary();
    while (true) {
      if (take("*")) {
        left = add(Op::kMultiply, left, unary());
      } else if (take("//")) {
        left = add(Op::kFloorDivide, left, unary());
      } else if (take("/")) {
        left = add(Op::kDivide, left, unary());
      } else if (take("%")) {
        left = add(Op::kModulo, left, unary());
      } else {
        return left;
      }
    }
  }
  Index unary() {
    if (!take("-")) return primary();
    if (++depth_ > kDepthLimit) fail("nested too deeply");
    const Index operand = unary();
    --depth_;
    return add(Op::kNegate, operand);
  }

  Index primary() {
    skip_spaces();
    if (at_ == text_.size()) fail("ends too early");
    if (take("(")) {
      const Index inner = conditional();
      expect(")");
      return inner;
    }
    const char c = text_[at_];
    if (c == '\'') return string_literal();
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) return number_literal();
    if (!is_word(c) || c == '.') fail("unexpected " + quote(text_.substr(at_, 8)));
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return word(std::string(text_.substr(begin, at_ - begin)));
  }

  Index literal(ExprValue value) {
    const Index node = add(Op::kLiteral);
    out_.nodes_[node].literal = std::move(value);
    return node;
  }
  Index string_literal() {
    const std::size_t end = text_.find('\'', at_ + 1);
    if (end == text_.npos) fail("a string is not closed");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return literal(std::move(value));
  }
  Index number_literal() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    const std::string_view digits = text_.substr(begin, at_ - begin);
    const char* end = digits.data() + digits.size();
    std::int64_t whole = 0;
    if (const auto r = std::from_chars(digits.data(), end, whole);
        r.ptr == end && r.ec == std::errc()) {
      return literal(whole);
    }
    double real = 0;
    if (const auto r = std::from_chars(digits.data(), end, real);
        r.ptr == end && r.ec == std::errc()) {
      return literal(real);
    }
    fail(quote(digits) + " is not a number");
  }
  Index word(std::string name) {
    if (name == "true") return literal(true);
    if (name == "false") return literal(false);
    if (name == "null") return literal(Null{});
    if (take("(")) return call(name);
    Index node = 0;
    if (take("[")) {
      const Index index = conditional();
      expect("]");
      node = add(Op::kSubscript, index);
      const std::size_t begin = at_;
      while (at_ < text_.size() && text_[begin] == '.' && is_word(text_[at_])) ++at_;
      if (at_ > begin) out_.nodes_[node].literal = std::string(text_.substr(begin, at_ - begin));
    } else {
      node = add(Op::kName);
    }
    out_.nodes_[node].name = std::move(name);
    return node;
  }
  Index call(const std::string& function) {
    if (function == "len" || function == "contains" || function == "has") {
      skip_spaces();
      const std::size_t begin = at_;
      while (at_ < text_.size() && is_word(text_[at_])) ++at_;
      std::string list(text_.substr(begin, at_ - begin));
      Index node = 0;
      if (function == "contains") {
        expect(",");
        node = add(Op::kContains, conditional());
      } else {
        node = add(function == "len" ? Op::kLen : Op::kHas);
      }
      expect(")");
      out_.nodes_[node].name = std::move(list);
      return node;
    }
    const Index first = conditional();
    if (function == "isqrt") {
      expect(")");
      return add(Op::kIsqrt, first);
    }
    if (function == "int") {
      expect(")");
      return add(Op::kInt, first);
    }
    if (function == "one_of") {
      expect(",");
      skip_spaces();
      if (at_ == text_.size() || text_[at_] != '\'') fail("one_of wants a string of words");
      const Index words = string_literal();
      expect(")");
      const Index node = add(Op::kOneOf, first);
      out_.nodes_[node].literal = out_.nodes_[words].literal;
      return node;
    }
    if (function != "min" && function != "max") fail("unknown function " + quote(function));
    expect(",");
    const Index second = conditional();
    expect(")");
    return add(function == "min" ? Op::kMin : Op::kMax, first, second);
  }

  Expression& out_;
  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

Expression::Expression(std::string_view text) : text_(text) {
  if (text_.size() > 1000) throw Error("expression " + quote(text_) + ": too long");
  ExpressionParser(*this).parse();
}

}  // namespace berth
