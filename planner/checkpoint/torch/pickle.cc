#include "planner/checkpoint/torch/pickle.h"

#include <algorithm>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

enum Opcode : unsigned char {
  kMark = '(',
  kStop = '.',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kEmptyTuple = ')',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kTuple = 't',
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kReduce = 'R',
  kNewObj = 0x81,
  kBuild = 'b',
  kBinPersId = 'Q',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kProto = 0x80,
  kFrame = 0x95,
};

// Opcodes that are refused, with the names for the message. It shows others in hexadecimal.
constexpr std::pair<unsigned char, const char*> kRefused[] = {
    {'i', "INST"},         {'o', "OBJ"},
    {0x92, "NEWOBJ_EX"},   {0x82, "EXT1"},
    {0x83, "EXT2"},        {0x84, "EXT4"},
    {'P', "PERSID"},       {'I', "INT"},
    {'L', "LONG"},         {'F', "FLOAT"},
    {'S', "STRING"},       {'V', "UNICODE"},
    {'B', "BINBYTES"},     {'C', "SHORT_BINBYTES"},
    {0x8e, "BINBYTES8"},   {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"},
    {'l', "LIST"},         {'d', "DICT"},
    {'0', "POP"},          {'1', "POP_MARK"},
    {'2', "DUP"},          {'g', "GET"},
    {'p', "PUT"},
};

std::string opcode_name(unsigned char opcode) {
  for (const auto& [code, name] : kRefused) {
    if (code == opcode) return name;
  }
  constexpr char kDigits[] = "0123456789abcdef";
  return std::string("0x") + kDigits[opcode >> 4] + kDigits[opcode & 15];
}

constexpr std::uint64_t kNewestProtocol = 5;
// Picklers number their memo from 0 or 1. Allowing a little more costs nothing.
constexpr std::uint64_t kMemoSlack = 16;

}  // namespace

PickleMachine::PickleMachine(std::string_view pickle, std::string source, std::uint64_t origin,
                             PickleHost& host, const PickleLimits& limits)
    : pickle_(pickle.substr(0, std::min<std::uint64_t>(pickle.size(), limits.bytes))),
      source_(std::move(source)),
      origin_(origin),
      host_(host),
      limits_(limits) {}

void PickleMachine::fail(std::uint32_t at, const std::string& what) const {
  throw Error(source_ + ": " + what + " (byte " + std::to_string(origin_ + at) + ")");
}

PickleValue PickleMachine::run() {
  while (!stopped_) {
    at_ = static_cast<std::uint32_t>(next_);
    if (next_ == pickle_.size()) {
      throw PickleTruncated(source_ + ": the pickle is truncated: it ends without a STOP (byte " +
                            std::to_string(origin_ + next_) + ")");
    }
    step(static_cast<unsigned char>(take(1)[0]));
  }
  if (stack_.size() != 1 || !marks_.empty()) {
    fail(at_, "the pickle ends with " + std::to_string(stack_.size()) + " values and " +
                  std::to_string(marks_.size()) + " marks on its stack, not with one value");
  }
  return stack_[0];
}

void PickleMachine::step(unsigned char opcode) {
  switch (opcode) {
    case kProto:
      if (const std::uint64_t version = take_number(1); version > kNewestProtocol) {
        fail(at_,
             "the pickle has protocol " + std::to_string(version) + ", which is not supported");
      }
      return;
    case kFrame:
      take_number(8);  // how much to read at once; we have read it all
      return;
    case kStop:
      stopped_ = true;
      return;
    case kMark:
      marks_.push_back(stack_.size());
      if (++pushed_ > limits_.values) fail(at_, "the pickle holds too many marks");
      return;
    case kNone:
      return push(PickleKind::kNone, 0);
    case kNewTrue:
      return push(PickleKind::kBool, 1);
    case kNewFalse:
      return push(PickleKind::kBool, 0);
    case kBinInt:
      return push(PickleKind::kInt, static_cast<std::uint64_t>(static_cast<std::int64_t>(
                                        static_cast<std::int32_t>(take_number(4)))));
    case kBinInt1:
      return push(PickleKind::kInt, take_number(1));
    case kBinInt2:
      return push(PickleKind::kInt, take_number(2));
    case kLong1:
      return push_long(take_number(1));
    case kLong4:
      return push_long(take_number(4));
    case kBinFloat:
      take(8);
      return push(PickleKind::kFloat, 0);
    case kShortBinString:
    case kShortBinUnicode:
      return push_text(take_number(1));
    case kBinString:
    case kBinUnicode:
      return push_text(take_number(4));
    case kBinUnicode8:
      return push_text(take_number(8));
    case kEmptyTuple:
      return push_tuple({});
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      PickleValue items[3];
      const std::size_t count = opcode - kTuple1 + 1;
      for (std::size_t i = count; i-- > 0;) items[i] = pop();
      return push_tuple({items, count});
    }
    case kTuple:
      return push_tuple(pop_to_mark());
    case kEmptyList:
      containers_.emplace_back();
      return push(PickleKind::kList, containers_.size() - 1);
    case kEmptyDict:
      return push(new_dict(at_));
    case kAppend: {
      const PickleValue item = pop();
      return add_items({&item, 1}, PickleKind::kList, "APPEND");
    }
    case kAppends:
      return add_items(pop_to_mark(), PickleKind::kList, "APPENDS");
    case kSetItem: {
      PickleValue pair[2];
      pair[1] = pop();
      pair[0] = pop();
      return add_items(pair, PickleKind::kDict, "SETITEM");
    }
    case kSetItems:
      return add_items(pop_to_mark(), PickleKind::kDict, "SETITEMS");
    case kGlobal: {
      const std::string_view module = take_line();
      return push_global(module, take_line());
    }
    case kStackGlobal: {
      const PickleValue name = pop();
      const PickleValue module = pop();
      if (name.kind != PickleKind::kText || module.kind != PickleKind::kText) {
        fail(at_, "opcode STACK_GLOBAL without two texts");
      }
      return push_global(text(module), text(name));
    }
    case kEmptySet:  // no state dict stands in a set, so one is kept as if it were a list
      containers_.emplace_back();
      return push(PickleKind::kList, containers_.size() - 1);
    case kAddItems:
      return add_items(pop_to_mark(), PickleKind::kList, "ADDITEMS");
    case kFrozenSet:
      return push_tuple(pop_to_mark());
    case kReduce:
      return call("REDUCE");
    case kNewObj:
      return call("NEWOBJ");
    case kBuild: {
      // Drops attributes, such as the _metadata of a state dict: nobody needs them.
      pop();
      const PickleKind kind = top_kind();
      if (kind == PickleKind::kOpaque) return;
      top(PickleKind::kDict, "BUILD");
      return;
    }
    case kBinPersId:
      return push(host_.persistent(*this, pop(), at_));
    case kBinGet:
      return recall(take_number(1));
    case kLongBinGet:
      return recall(take_number(4));
    case kBinPut:
      return remember(take_number(1));
    case kLongBinPut:
      return remember(take_number(4));
    case kMemoize:
      return remember(kept_);
    default:
      fail(at_, "opcode " + opcode_name(opcode) +
                    " is refused: only what rebuilds tensors is read, nothing is executed");
  }
}

std::string_view PickleMachine::take(std::uint64_t bytes) {
  if (bytes > pickle_.size() - next_) {
    throw PickleTruncated(source_ + ": the pickle is truncated: it ends within an opcode (byte " +
                          std::to_string(origin_ + at_) + ")");
  }
  const std::string_view taken = pickle_.substr(next_, bytes);
  next_ += bytes;
  return taken;
}

std::uint64_t PickleMachine::take_number(std::size_t width) {
  std::uint64_t value = 0;
  const std::string_view bytes = take(width);
  for (std::size_t i = 0; i < width; ++i) {
    value |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return value;
}

std::string_view PickleMachine::take_line() {
  const std::size_t length = pickle_.substr(next_).find('\n');
  const std::string_view line = take(length == pickle_.npos ? pickle_.size() : length);
  take(1);
  return line;
}

void PickleMachine::push(PickleValue value) {
  if (++pushed_ > limits_.values) {
    fail(at_, "the pickle makes more than " + std::to_string(limits_.values) + " values");
  }
  stack_.push_back(value);
}

// Does not copy the text: `at` and the payload say where it stands.
void PickleMachine::push_text(std::uint64_t bytes) {
  const auto begin = static_cast<std::uint32_t>(next_);
  take(bytes);
  push({PickleKind::kText, 0, begin, bytes});
}

// Integers are two's complement of any length, little-endian.
void PickleMachine::push_long(std::uint64_t bytes) {
  const auto begin = static_cast<std::uint32_t>(next_);
  const std::string_view digits = take(bytes);
  if (bytes > 8) return push({PickleKind::kBigInt, 0, begin, bytes});
  const bool negative = bytes > 0 && (digits.back() & 0x80) != 0;
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = bytes; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(digits[i]);
  }
  push(PickleKind::kInt, value);
}

PickleValue PickleMachine::pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    fail(at_, "the pickle takes a value from its stack, but none is left");
  }
  const PickleValue value = stack_.back();
  stack_.pop_back();
  return value;
}

void PickleMachine::call(const char* opcode) {
  const PickleValue arguments = pop();
  const PickleValue callable = pop();
  if (arguments.kind != PickleKind::kTuple || callable.kind != PickleKind::kGlobal) {
    fail(at_, std::string("opcode ") + opcode + " does not call a known function with a tuple");
  }
  push(host_.reduce(*this, callable, arguments, at_));
}

std::vector<PickleValue> PickleMachine::pop_to_mark() {
  if (marks_.empty()) fail(at_, "the pickle looks for a mark that is not on its stack");
  const auto mark = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<PickleValue> items(mark, stack_.end());
  stack_.erase(mark, stack_.end());
  marks_.pop_back();
  return items;
}

PickleKind PickleMachine::top_kind() const {
  const bool empty = stack_.size() <= (marks_.empty() ? 0 : marks_.back());
  return empty ? PickleKind::kNone : stack_.back().kind;
}

PickleValue& PickleMachine::top(PickleKind kind, const char* opcode) {
  if (top_kind() != kind) {
    fail(at_, std::string("opcode ") + opcode + " is not applied to a " +
                  (kind == PickleKind::kDict ? "dict" : "list"));
  }
  return stack_.back();
}

void PickleMachine::push_tuple(std::span<const PickleValue> items) {
  // Both fit into 32 bits, because the pool holds no more values than were pushed.
  const std::uint64_t range = std::uint64_t{pool_.size()} << 32 | items.size();
  pool_.insert(pool_.end(), items.begin(), items.end());
  push(PickleKind::kTuple, range);
}

void PickleMachine::remember(std::uint64_t index) {
  if (stack_.empty()) fail(at_, "the pickle keeps a value that is not on its stack");
  if (index > kept_ + kMemoSlack || index >= limits_.values) {
    fail(at_, "the pickle keeps a value as number " + std::to_string(index) + ", after " +
                  std::to_string(kept_));
  }
  ++kept_;
  if (index >= memo_.size()) memo_.resize(index + 1, {PickleKind::kNone, 0, 0, 1});
  memo_[index] = stack_.back();
}

void PickleMachine::recall(std::uint64_t index) {
  const bool known = index < memo_.size() &&
                     !(memo_[index].kind == PickleKind::kNone && memo_[index].payload != 0);
  if (!known) fail(at_, "the pickle uses value " + std::to_string(index) + ", which it never kept");
  push(memo_[index]);
}

void PickleMachine::add_items(std::span<const PickleValue> items, PickleKind kind,
                              const char* opcode) {
  if (kind == PickleKind::kDict && items.size() % 2 != 0) {
    fail(at_, std::string("opcode ") + opcode + " has a key without a value");
  }
  auto& to = containers_[container(top(kind, opcode))];
  to.insert(to.end(), items.begin(), items.end());
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  push(host_.global(*this, module, name, at_));
}

PickleValue PickleMachine::new_dict(std::uint32_t at, std::vector<PickleValue> pairs) {
  pushed_ += pairs.size();  // a copy counts like what was pushed, or pickles could grow
  if (pushed_ > limits_.values) fail(at, "the pickle copies too many values");
  containers_.push_back(std::move(pairs));
  return {PickleKind::kDict, 0, at, containers_.size() - 1};
}

std::string_view PickleMachine::text(PickleValue value) const {
  return pickle_.substr(value.at, value.payload);
}

std::span<const PickleValue> PickleMachine::items(PickleValue value) const {
  if (value.kind == PickleKind::kList) return containers_[value.payload];
  return std::span(pool_).subspan(value.payload >> 32, value.payload & 0xffffffff);
}

std::span<const PickleValue> PickleMachine::pairs(PickleValue value) const {
  return containers_[value.payload];
}

std::size_t PickleMachine::container(PickleValue value) const { return value.payload; }

}  // namespace berth
