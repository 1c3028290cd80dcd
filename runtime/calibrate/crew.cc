#include "runtime/calibrate/crew.h"

#include <cstddef>
#include <system_error>

#include "berth/error.h"
#include "runtime/calibrate/repeat.h"

namespace berth {

Crew::Crew(unsigned wanted) : barrier_(static_cast<std::ptrdiff_t>(wanted) + 1) {
  threads_.reserve(wanted);
  try {
    for (unsigned i = 0; i < wanted; ++i) threads_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error&) {  // the system allows no more: go on with those that run
    for (unsigned i = size(); i < wanted; ++i) barrier_.arrive_and_drop();
  }
  if (threads_.empty()) throw Error("no thread could be started");
}

Crew::~Crew() {
  job_ = nullptr;
  barrier_.arrive_and_wait();
  for (std::thread& thread : threads_) thread.join();
}

double Crew::run(const std::function<void(unsigned)>& job) {
  job_ = &job;
  barrier_.arrive_and_wait();
  const double start = steady_seconds();
  barrier_.arrive_and_wait();
  return steady_seconds() - start;
}

void Crew::work(unsigned index) {
  for (;;) {
    barrier_.arrive_and_wait();
    if (!job_) return;
    (*job_)(index);
    barrier_.arrive_and_wait();
  }
}

}  // namespace berth
