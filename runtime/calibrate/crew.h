// Threads that begin a job at the same moment, as often as they are told to.
#pragma once

#include <atomic>
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

namespace berth {

class Crew {
 public:
  // Starts `wanted` threads, or as many as can be started. Throws Error where that is none.
  explicit Crew(unsigned wanted);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  unsigned size() const { return static_cast<unsigned>(threads_.size()); }

  // Runs job(i) on every thread i at the same time, and waits. Returns the seconds from the common
  // start to the end of the last one. The job must not throw. To be called from one thread.
  double run(const std::function<void(unsigned)>& job);

 private:
  void work(unsigned index);

  std::barrier<> barrier_;  // of the threads and the one that calls run()
  const std::function<void(unsigned)>* job_ = nullptr;  // null: the threads are to end
  std::vector<std::thread> threads_;
};

}  // namespace berth
