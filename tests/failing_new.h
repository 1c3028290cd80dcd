// Makes operator new fail, for tests of what happens where memory runs out. For programs that
// failing_new.cc is a source of.
#pragma once

namespace berth::testing {

// Lets the allocations of this thread fail, all but the first `after`, while it lives.
class OutOfMemory {
 public:
  explicit OutOfMemory(int after);
  ~OutOfMemory();
  OutOfMemory(const OutOfMemory&) = delete;
  OutOfMemory& operator=(const OutOfMemory&) = delete;
};

}  // namespace berth::testing
