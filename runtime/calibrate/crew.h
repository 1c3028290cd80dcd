// Threads that begin a job at the same moment, over and over.
#pragma once

#include <atomic>
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

namespace berth {

class Crew {
 public:
  // As many threads as wanted and to be had. Throws Error where not even one can be made.
  explicit Crew(unsigned wanted);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  unsigned size() const { return static_cast<unsigned>(threads_.size()); }

  // Runs job(i) on thread i of all; returns seconds from the common start to the last end. The job
  // must not throw.
  double run(const std::function<void(unsigned)>& job);

 private:
  void work(unsigned index);

  std::barrier<> barrier_;  // of the threads and the one that calls run()
  const std::function<void(unsigned)>* job_ = nullptr;  // null: the end
  std::vector<std::thread> threads_;
};

}  // namespace berth
