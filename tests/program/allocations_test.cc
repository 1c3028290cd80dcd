// How often a compiled decoder allocates memory while it makes tokens. This binary counts all that
// is allocated in it.
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <span>
#include <string>

#include "runtime/program/compiled_decoder.h"
#include "tests/program/made_model.h"

namespace {

std::atomic<std::size_t> allocations{0};

// Null where there is no memory.
void* counted(std::size_t size, std::size_t alignment) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  // aligned_alloc() takes multiples of the alignment.
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* counted_or_thrown(std::size_t size, std::size_t alignment) {
  void* const memory = counted(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) {
  return counted_or_thrown(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted_or_thrown(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace berth::testing {
namespace {

// On one thread: others may take their first part, and memory for it, at any token.
class Allocations : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    int first = 0;
    while (!CPU_ISSET(first, &allowed)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  }
};

TEST_P(Allocations, AreNoneForAToken) {
  const Model model = open_made(GetParam());
  const Plan plan = made_plan(model.tree, [](const auto&, TensorId) { return kCpu; });
  const MadeLoad loaded(model.tree, plan);
  const Recipe recipe = make_recipe(model);
  const Expected expected = read_expected(GetParam());
  const auto decoder = make_compiled_decoder(recipe, model, plan, loaded, 40, nullptr);
  decoder->forward(expected.prompt, nullptr);
  // Ids of the prompt: the experts that they pick have memory since then.
  const std::span<const std::int64_t> ids(expected.prompt);
  const auto next = [&](std::size_t i) { decoder->forward(ids.subspan(i, 1), nullptr); };
  for (std::size_t i = 0; i < 4; ++i) next(i);
  for (std::size_t i = 4; i < 8; ++i) {
    const std::size_t before = allocations.load();
    next(i);
    EXPECT_EQ(allocations.load() - before, 0) << "token " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Allocations,
                         ::testing::Values("deepseek_v3", "gemma2", "gpt2", "gpt_neox", "gpt_oss",
                                           "lfm2", "llama", "mistral", "qwen3_moe", "qwen3_next"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace berth::testing
