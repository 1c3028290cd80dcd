// Threads that compute one thing together, many times a second.
//
// A model's step is hundreds of short pieces of work, each of which must end before the next
// begins, so the threads of a team spin for a short while before they sleep. Each is pinned to a
// processor of its own. One team computes for the whole process: two would take each other's
// processors.
//
// Work is cut into parts, and whoever is free takes the next one. So nobody waits for a thread that
// the kernel has not let run yet, because somebody else's program has its processor: the others do
// its share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace berth {

class ThreadTeam {
 public:
  /// A function of a part and a thread that somebody else owns: to hand it over allocates nothing.
  class Work {
   public:
    template <class Function>
    Work(const Function& function)  // NOLINT: as a std::function is made
        : function_(&function), call_([](const void* own, std::size_t part, std::size_t thread) {
            (*static_cast<const Function*>(own))(part, thread);
          }) {}
    void operator()(std::size_t part, std::size_t thread) const { call_(function_, part, thread); }

   private:
    const void* function_;
    void (*call_)(const void* own, std::size_t part, std::size_t thread);
  };

  /// `threads`: how many compute, the caller's own included; 0: one for each processor that the
  /// process may run on. Where fewer can be started, there are fewer.
  explicit ThreadTeam(std::size_t threads = 0);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  std::size_t size() const { return workers_.size() + 1; }
  /// How many processors the process may run on: at least 1.
  static std::size_t processors();

  /// How many parts `units` equal pieces of work should be cut into, where fewer than `least` of
  /// them are not worth the hand-over: several for each thread, at most one for each unit.
  std::size_t parts(std::size_t units, std::size_t least) const;

  /// Runs work(part, thread) once for every part below `parts`, at most kMostParts, and returns
  /// when all have ended. `thread` is below size(), and no two parts run on one at a time; the
  /// caller's own is 0. Parts are begun in order. `work` must not throw. For one caller at a time.
  void run(std::size_t parts, const Work& work);

  static constexpr std::size_t kMostParts = (1u << 20) - 1;

 private:
  void serve(std::size_t thread);
  void take_parts(std::size_t thread);

  const Work* work_ = nullptr;
  // What is to be done, in one word, so that a part is taken of the work that it was seen in: the
  // number of the round, of its parts, and of the next one that nobody has taken.
  std::atomic<std::uint64_t> state_ = 0;
  std::atomic<std::uint32_t> round_ = 0;  // changes when there is work, or the team ends
  std::atomic<std::uint32_t> left_ = 0;   // parts that have not ended
  std::atomic<bool> ended_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace berth
