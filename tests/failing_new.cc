#include "tests/failing_new.h"

#include <cstdlib>
#include <new>

namespace berth::testing {
namespace {

thread_local int left = -1;  // allocations that succeed before all fail; negative: all succeed

}  // namespace

OutOfMemory::OutOfMemory(int after) { left = after; }
OutOfMemory::~OutOfMemory() { left = -1; }

// Whether the next allocation succeeds.
bool take_allocation() {
  if (left == 0) return false;
  if (left > 0) --left;
  return true;
}

}  // namespace berth::testing

void* operator new(std::size_t bytes) {
  if (berth::testing::take_allocation()) {
    if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  }
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return berth::testing::take_allocation() ? std::malloc(bytes > 0 ? bytes : 1) : nullptr;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
