// Measuring GPUs, with made-up ones: what is asked of them, and what is made of their times.
#include "runtime/calibrate/gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "berth/error.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// By the device's clock an operation takes its bytes divided by a rate; the host's shows 10 us
// more.
class FakeBench final : public GpuBench {
 public:
  explicit FakeBench(int gpus) : gpus_(gpus) {}

  int count() const override { return gpus_; }
  GpuIdentity identity(int device) override {
    if (failing.count(device)) throw Error("it has fallen off the bus");
    return {"FAKE 9000", "GPU-" + std::to_string(device),
            free.count(device) ? free[device] : 80ull << 30};
  }
  void prepare(int device, std::size_t bytes, std::size_t host_bytes) override {
    prepared[device] = bytes;
    host_bytes_ = std::max(host_bytes_, host_bytes);
  }
  void release(int device) noexcept override { prepared.erase(device); }

  GpuTime copy_to_device(int device, std::size_t bytes) override {
    return copy(device, bytes, 50e9);
  }
  GpuTime copy_to_host(int device, std::size_t bytes) override {
    if (one_way.count(device)) throw Error("the copy failed");
    return copy(device, bytes, 40e9);
  }
  GpuTime read_memory(int device, std::size_t bytes) override { return at(device, bytes, 4e12); }
  std::optional<GpuTime> copy_between(int from, int to, std::size_t bytes) override {
    if (apart.count({from, to})) return std::nullopt;
    EXPECT_TRUE(prepared.count(from) && prepared.count(to)) << "both need their buffers";
    return at(from, bytes, 100e9 * (from + 1) + 10e9 * to);
  }

  std::set<int> failing;                // identity() throws
  std::set<int> one_way;                // copy_to_host() throws
  std::set<std::pair<int, int>> apart;  // cannot access each other's memory
  std::map<int, std::uint64_t> free;    // free bytes where they are not 80 GiB
  std::map<int, std::size_t> prepared;  // bytes of the buffers that are there
  std::atomic<bool>* cancel_at_copy = nullptr;
  int copies = 0;

 private:
  GpuTime copy(int device, std::size_t bytes, double rate) {
    ++copies;
    if (cancel_at_copy) *cancel_at_copy = true;
    EXPECT_LE(bytes, host_bytes_);
    return at(device, bytes, rate);
  }
  GpuTime at(int device, std::size_t bytes, double rate) {
    EXPECT_LE(bytes, prepared.at(device)) << "more than the buffer holds";
    const double seconds = static_cast<double>(bytes) / rate;
    return {seconds, seconds + 10e-6};
  }

  int gpus_;
  std::size_t host_bytes_ = 0;
};

TEST(Gpus, GiveWhatTheirClocksSay) {
  FakeBench bench(2);
  const MeasuredGpus measured = measure_gpus(bench, {});
  ASSERT_EQ(measured.gpus.size(), 2u);
  for (int i = 0; i < 2; ++i) {
    const MeasuredGpu& gpu = measured.gpus[static_cast<std::size_t>(i)];
    EXPECT_EQ(gpu.ordinal, i);
    EXPECT_EQ(gpu.uuid, "GPU-" + std::to_string(i));
    EXPECT_NEAR(gpu.memory, 4e12, 1e6);
    EXPECT_NEAR(gpu.to_device.bandwidth, 50e9, 1e3);
    EXPECT_NEAR(gpu.to_host.bandwidth, 40e9, 1e3);
    EXPECT_NEAR(gpu.to_device.latency, 10e-6, 1e-6) << "by the host's clock";
    EXPECT_GE(gpu.memory_bytes, 256u << 20) << "more than caches hold";
  }
  ASSERT_EQ(measured.peers.size(), 2u);
  EXPECT_EQ(measured.peers[0].from, 0);
  EXPECT_EQ(measured.peers[0].to, 1);
  EXPECT_NEAR(measured.peers[0].link.bandwidth, 110e9, 1e3);
  EXPECT_NEAR(measured.peers[1].link.bandwidth, 200e9, 1e3) << "the other direction";
  EXPECT_THAT(measured.notes, IsEmpty());
  EXPECT_THAT(bench.prepared, IsEmpty()) << "everything was freed";
}

TEST(Gpus, ThatAreNotThereAreNoError) {
  FakeBench bench(0);
  const MeasuredGpus measured = measure_gpus(bench, {});
  EXPECT_THAT(measured.gpus, IsEmpty());
  EXPECT_THAT(measured.peers, IsEmpty());
  EXPECT_THAT(measured.notes, IsEmpty());
}

TEST(Gpus, ThatFailAreANoteAndTheOthersAreMeasured) {
  FakeBench bench(3);
  bench.failing = {0};
  bench.one_way = {1};
  const MeasuredGpus measured = measure_gpus(bench, {});
  ASSERT_EQ(measured.gpus.size(), 1u);
  EXPECT_EQ(measured.gpus[0].ordinal, 2);
  EXPECT_THAT(measured.peers, IsEmpty()) << "one is left";
  EXPECT_THAT(measured.notes,
              ElementsAre(AllOf(HasSubstr("gpu 0"), HasSubstr("fallen off the bus")),
                          AllOf(HasSubstr("gpu 1"), HasSubstr("the copy failed"))));
  EXPECT_THAT(bench.prepared, IsEmpty());
}

TEST(Gpus, ThatDoNotReachEachOtherHaveNoLink) {
  FakeBench bench(3);
  bench.apart = {{0, 1}, {1, 0}, {2, 1}};
  const MeasuredGpus measured = measure_gpus(bench, {});
  std::set<std::pair<int, int>> pairs;
  for (const MeasuredPair& pair : measured.peers) pairs.insert({pair.from, pair.to});
  EXPECT_EQ(pairs, (std::set<std::pair<int, int>>{{0, 2}, {1, 2}, {2, 0}}));
  EXPECT_THAT(measured.notes, IsEmpty()) << "that is how they are, not a failure";
}

TEST(Gpus, ThatAreNearlyFullUseWhatIsLeftOrSaySo) {
  FakeBench bench(2);
  bench.free = {{0, 1ull << 30}, {1, 300u << 20}};
  const MeasuredGpus measured = measure_gpus(bench, {});
  ASSERT_EQ(measured.gpus.size(), 1u);
  EXPECT_EQ(measured.gpus[0].memory_bytes, 384u << 20) << "half of what is left to it";
  EXPECT_THAT(measured.notes, ElementsAre(AllOf(HasSubstr("gpu 1"), HasSubstr("300.0 MiB"))));
}

TEST(Gpus, StopWhenCancelled) {
  FakeBench bench(2);
  std::atomic<bool> cancel{false};
  bench.cancel_at_copy = &cancel;
  GpuOptions options;
  options.cancel = &cancel;
  EXPECT_THROW(measure_gpus(bench, options), Error);
  EXPECT_EQ(bench.copies, 1);
}

TEST(Gpus, ThatAreManyShareTheTime) {
  FakeBench bench(8);
  GpuOptions options;
  options.seconds = 1e-9;  // none: one pass each
  const MeasuredGpus measured = measure_gpus(bench, options);
  EXPECT_EQ(measured.gpus.size(), 8u);
  EXPECT_EQ(measured.peers.size(), 56u);
  EXPECT_EQ(bench.copies, 8 * 4);
}

}  // namespace
}  // namespace berth
