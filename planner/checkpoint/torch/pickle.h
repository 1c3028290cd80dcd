// A machine for Python pickles that executes nothing.
//
// It knows the opcodes that plain data is made of (PEP 307, PEP 3154; the comments of CPython's
// pickletools.py) and refuses every other one by name. What a pickle would call or look up by name
// goes to a PickleHost, which knows a fixed set of names and builds values of its own; nothing is
// imported, called or decompressed. Values are 16 bytes and refer to the pickle's bytes; shared
// ones are shared here too, so no pickle grows when it is read. Memory and time are bounded by the
// pickle's size and by PickleLimits.
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
  std::uint64_t bytes = 64u << 20;  // of one pickle
  std::uint64_t values = 4u << 20;  // put on the stack, in all
};

enum class PickleKind : std::uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kBigInt,  // over 64 bits: as text
  kText,
  kTuple,
  kList,
  kDict,
  kGlobal,  // the host's: a name it knows
  kHost,    // the host's: what a persistent id or a call stands for
};

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::uint8_t host_kind = 0;  // of kGlobal and kHost, the host's affair
  std::uint32_t at = 0;        // byte of the pickle where it was made; of text: where it stands
  std::uint64_t payload = 0;   // the bool or integer; else machine- or host-internal
};

// The pickle ends before its STOP: with more of the file, it may be whole.
class PickleTruncated : public Error {
 public:
  using Error::Error;
};

class PickleMachine;

// What names mean. Throws Error, through PickleMachine::fail(), for what it does not know.
class PickleHost {
 public:
  virtual ~PickleHost() = default;
  virtual PickleValue global(PickleMachine& machine, std::string_view module, std::string_view name,
                             std::uint32_t at) = 0;
  virtual PickleValue persistent(PickleMachine& machine, PickleValue id, std::uint32_t at) = 0;
  // callable(*arguments)
  virtual PickleValue reduce(PickleMachine& machine, PickleValue callable, PickleValue arguments,
                             std::uint32_t at) = 0;
};

// One pickle. Not thread-safe.
class PickleMachine {
 public:
  // Bytes of `pickle` must outlive the machine. `source` and `origin`, the offset of the pickle in
  // its file, are for messages.
  PickleMachine(std::string_view pickle, std::string source, std::uint64_t origin, PickleHost& host,
                const PickleLimits& limits = {});

  // Runs to STOP and returns the one value that is left. Throws Error naming opcode and offset.
  PickleValue run();
  // Bytes of the pickle, after run().
  std::uint64_t size() const { return next_; }

  std::string_view text(PickleValue value) const;                // of kText and kBigInt
  std::span<const PickleValue> items(PickleValue value) const;   // of kTuple and kList
  std::span<const PickleValue> pairs(PickleValue value) const;   // of kDict: key, value, key, ...
  std::size_t container(PickleValue value) const;                // of kList and kDict: its number
  std::size_t containers() const { return containers_.size(); }  // numbers are below it
  PickleValue new_dict(std::uint32_t at);                        // empty, for hosts

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
  std::uint64_t next_ = 0;  // byte that is read next
  std::uint32_t at_ = 0;    // byte of the opcode that is being carried out
  std::uint64_t pushed_ = 0;
  std::uint64_t kept_ = 0;  // in the memo, in all
  bool stopped_ = false;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::vector<PickleValue> memo_;
  std::vector<PickleValue> pool_;  // items of tuples, one after another
  std::deque<std::vector<PickleValue>> containers_;
};

}  // namespace berth
