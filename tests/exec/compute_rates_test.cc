// How much the CPU computes in a second: every dtype that can be run has its rates. How high they
// are is not tested.
#include "runtime/exec/compute_rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"

namespace berth {
namespace {

using ::testing::Gt;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(ComputeRates, AreMeasuredForEveryDTypeThatRuns) {
  ComputeOptions options;
  options.seconds = 0;  // one pass each, however long it takes
  options.weights = 1;  // enough for one matrix, which is the least
  const ComputeRates rates = measure_compute(options);
  EXPECT_THAT(rates.matvec, UnorderedElementsAre(Pair("bfloat16", Gt(0)), Pair("float16", Gt(0)),
                                                 Pair("float32", Gt(0))));
  EXPECT_THAT(rates.matmul, UnorderedElementsAre(Pair("bfloat16", Gt(0)), Pair("float16", Gt(0)),
                                                 Pair("float32", Gt(0))));
  EXPECT_GE(rates.threads, 1);
  EXPECT_TRUE(rates.notes.empty());
}

TEST(ComputeRates, StopWhenCancelled) {
  const std::atomic<bool> cancel{true};
  ComputeOptions options;
  options.cancel = &cancel;
  EXPECT_THROW(measure_compute(options), Error);
}

}  // namespace
}  // namespace berth
