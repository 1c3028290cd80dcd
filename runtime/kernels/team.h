// Threads that compute one thing together, many times a second.
//
// A model's step is hundreds of short pieces of work with a barrier after each, so the threads of a
// team spin for a short while before they sleep. Each is pinned to a processor of its own. One team
// computes for the whole process: two would take each other's processors.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace berth {

class ThreadTeam {
 public:
  using Work = std::function<void(std::size_t thread, std::size_t threads)>;

  /// `threads`: how many compute, the caller's own included; 0: one for each processor that the
  /// process may run on. Where fewer can be started, there are fewer.
  explicit ThreadTeam(std::size_t threads = 0);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  std::size_t size() const { return workers_.size() + 1; }
  /// How many processors the process may run on: at least 1.
  static std::size_t processors();

  /// Runs work(i, size()) for every i below size(), work(0, size()) on the caller's thread, and
  /// returns when all have ended. `work` must not throw. For one caller at a time.
  void run(const Work& work);

 private:
  void serve(std::size_t thread);

  const Work* work_ = nullptr;
  std::atomic<std::uint32_t> round_ = 0;    // changes when there is work, or the team ends
  std::atomic<std::uint32_t> running_ = 0;  // workers that have not ended this round
  std::atomic<bool> ended_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace berth
