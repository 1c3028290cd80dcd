// Reads Python pickles without executing anything.
//
// The machine knows the opcodes that plain data is made of (PEP 307, PEP 3154; the comments of
// CPython's pickletools.py) and refuses every other opcode by name. Whatever a pickle wants to call
// or look up by name goes to a PickleHost, which knows a fixed set of names and builds values of
// its own; nothing is imported, called or decompressed. A value takes 16 bytes and refers to the
// pickle's bytes. A value that the pickle shares is shared here too, so no pickle grows when it is
// read. The pickle's size and PickleLimits bound memory and time.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/error.h"

namespace berth {

struct PickleLimits {
  std::uint64_t bytes = 64u << 20;  // the longest pickle
  std::uint64_t values = 4u << 20;  // how many a pickle may put on the stack in all
};

enum class PickleKind : std::uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kBigInt,  // over 64 bits; kept as text
  kText,
  kTuple,
  kList,
  kDict,
  kOpaque,  // an object that nobody needs, which the host made of a call
  kGlobal,  // a name that the host knows
  kHost,    // what the host made of a persistent id or a call
};

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::uint8_t host_kind = 0;  // for kGlobal and kHost; only the host knows its meaning
  std::uint32_t at = 0;        // byte of the pickle where it was made; of text: where it begins
  std::uint64_t payload = 0;   // the bool or integer; else internal to the machine or the host
};

// Thrown if the pickle ends before its STOP. A caller who gave only the start of a file may try
// again with more.
class PickleTruncated : public Error {
 public:
  using Error::Error;
};

class PickleMachine;

// Says what the names in a pickle mean. For what it does not know it throws Error, through
// PickleMachine::fail().
class PickleHost {
 public:
  virtual ~PickleHost() = default;
  virtual PickleValue global(PickleMachine& machine, std::string_view module, std::string_view name,
                             std::uint32_t at) = 0;
  virtual PickleValue persistent(PickleMachine& machine, PickleValue id, std::uint32_t at) = 0;
  // Called for callable(*arguments), and where a class makes an object of arguments.
  virtual PickleValue reduce(PickleMachine& machine, PickleValue callable, PickleValue arguments,
                             std::uint32_t at) = 0;
};

// Runs one pickle. Not thread-safe.
class PickleMachine {
 public:
  // The bytes of `pickle` must outlive the machine. `source` and `origin`, the offset of the pickle
  // in its file, are used in messages only.
  PickleMachine(std::string_view pickle, std::string source, std::uint64_t origin, PickleHost& host,
                const PickleLimits& limits = {});

  // Runs the pickle to its STOP and returns the one value that is left. Throws Error, naming opcode
  // and offset, and PickleTruncated if the bytes end too early.
  PickleValue run();
  // Length of the pickle in bytes; known after run().
  std::uint64_t size() const { return next_; }

  std::string_view text(PickleValue value) const;                // of kText and kBigInt
  std::span<const PickleValue> items(PickleValue value) const;   // of kTuple and kList
  std::span<const PickleValue> pairs(PickleValue value) const;   // of kDict: key, value, key, ...
  std::size_t container(PickleValue value) const;                // of kList and kDict: its number
  std::size_t containers() const { return containers_.size(); }  // numbers are below it
  // For hosts; `pairs` is as of pairs().
  PickleValue new_dict(std::uint32_t at, std::vector<PickleValue> pairs = {});

  // Throws Error "source: what (byte N)", N being `at` in the file.
  [[noreturn]] void fail(std::uint32_t at, const std::string& what) const;

 private:
  void step(unsigned char opcode);
  std::string_view take(std::uint64_t bytes);
  std::uint64_t take_number(std::size_t width);
  std::string_view take_line();
  void push(PickleValue value);
  void push(PickleKind kind, std::uint64_t payload) { push({kind, 0, at_, payload}); }
  void push_text(std::uint64_t bytes);
  void push_long(std::uint64_t bytes);
  PickleValue pop();
  std::vector<PickleValue> pop_to_mark();
  void call(const char* opcode);
  PickleKind top_kind() const;  // kNone where there is none above the last mark
  PickleValue& top(PickleKind kind, const char* opcode);
  void push_tuple(std::span<const PickleValue> items);
  void remember(std::uint64_t index);
  void recall(std::uint64_t index);
  void add_items(std::span<const PickleValue> items, PickleKind kind, const char* opcode);
  void push_global(std::string_view module, std::string_view name);

  std::string_view pickle_;
  std::string source_;
  std::uint64_t origin_;
  PickleHost& host_;
  PickleLimits limits_;
  std::uint64_t next_ = 0;  // the byte to read next
  std::uint32_t at_ = 0;    // where the opcode begins that is being carried out
  std::uint64_t pushed_ = 0;
  std::uint64_t kept_ = 0;  // how many values the memo was given in all
  bool stopped_ = false;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack at its marks
  std::vector<PickleValue> memo_;
  std::vector<PickleValue> pool_;  // the items of all tuples, one after another
  std::deque<std::vector<PickleValue>> containers_;
};

}  // namespace berth
