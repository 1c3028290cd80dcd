// The io_uring engine. One call reads a chunk as several requests side by side, and returns when
// all of them are done.
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "berth/error.h"
#include "runtime/io/reader.h"

#ifdef BERTH_HAVE_LIBURING
#include <liburing.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/io/uring_submit.h"

namespace berth {
namespace {

constexpr unsigned kDepth = 8;
// Bytes of a request: small enough that a chunk makes several, which keeps an NVMe disk busy, and
// large enough that they cost little.
constexpr std::size_t kRequest = 1u << 20;

class Ring {
 public:
  Ring() : status_(io_uring_queue_init(kDepth, &ring_, 0)) {}
  ~Ring() {
    if (status_ == 0) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  int status() const { return status_; }  // 0 or -errno

  // Whether requests were left in the ring that the kernel did not take: it must not be used again.
  bool spoilt() const { return spoilt_; }

  // Reads up to kDepth * kRequest bytes. Returns how many came without a gap from `offset` on, as a
  // short read does, or -errno where not even the first request succeeded.
  std::int64_t read(int fd, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
    const auto requests =
        static_cast<unsigned>(std::min<std::size_t>(kDepth, (bytes + kRequest - 1) / kRequest));
    for (unsigned i = 0; i < requests; ++i) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_read(sqe, fd, buffer + i * kRequest,
                         static_cast<unsigned>(request_bytes(i, bytes)), offset + i * kRequest);
      io_uring_sqe_set_data64(sqe, i);
    }
    const Submitted submitted = submit_all(requests, [this] { return io_uring_submit(&ring_); });
    spoilt_ = submitted.taken < requests;
    std::int64_t results[kDepth] = {};
    for (unsigned done = 0; done < submitted.taken; ++done) {
      io_uring_cqe* cqe = wait();
      results[io_uring_cqe_get_data64(cqe)] = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
    }
    return submitted.taken > 0 ? prefix(results, submitted.taken, bytes) : submitted.error;
  }

 private:
  static std::size_t request_bytes(unsigned request, std::size_t bytes) {
    return std::min(kRequest, bytes - request * kRequest);
  }

  // Waits for a result. The kernel may still write to the buffer, so there is no other way out: an
  // error of the call says nothing about requests in flight, and their results come all the same.
  io_uring_cqe* wait() {
    io_uring_cqe* cqe = nullptr;
    while (io_uring_wait_cqe(&ring_, &cqe) < 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return cqe;
  }

  static std::int64_t prefix(const std::int64_t* results, unsigned requests, std::size_t bytes) {
    std::int64_t total = 0;
    for (unsigned i = 0; i < requests; ++i) {
      if (results[i] < 0) return total > 0 ? total : results[i];
      total += results[i];
      if (static_cast<std::size_t>(results[i]) < request_bytes(i, bytes)) break;
    }
    return total;
  }

  io_uring ring_{};
  int status_;
  bool spoilt_ = false;
};

class Pool final : public UringPool, public std::enable_shared_from_this<Pool> {
 public:
  std::unique_ptr<Reader> make_reader(int fd) override;

  std::unique_ptr<Ring> take() {
    {
      const std::scoped_lock lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Ring> ring = std::move(idle_.back());
        idle_.pop_back();
        return ring;
      }
    }
    return std::make_unique<Ring>();
  }

  void give(std::unique_ptr<Ring> ring) {
    const std::scoped_lock lock(mutex_);
    idle_.push_back(std::move(ring));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Ring>> idle_;
};

bool is_shortage(std::int64_t count) {
  return count == -EAGAIN || count == -EBUSY || count == -ENOMEM;
}

class UringReader final : public Reader {
 public:
  UringReader(int fd, std::shared_ptr<Pool> pool) : fd_(fd), pool_(std::move(pool)) {}
  std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* buffer) override {
    std::unique_ptr<Ring> ring = pool_->take();
    const std::int64_t count =
        ring->status() != 0 ? ring->status() : ring->read(fd_, offset, bytes, buffer);
    if (ring->status() == 0 && !ring->spoilt()) pool_->give(std::move(ring));
    if (!is_shortage(count)) return count;
    // Where the kernel has no memory for a ring or a request, it may have some for a read.
    return make_pread_reader(fd_)->read_some(offset, bytes, buffer);
  }

 private:
  int fd_;
  std::shared_ptr<Pool> pool_;
};

std::unique_ptr<Reader> Pool::make_reader(int fd) {
  return std::make_unique<UringReader>(fd, shared_from_this());
}

}  // namespace

std::shared_ptr<UringPool> UringPool::create() {
  auto pool = std::make_shared<Pool>();
  auto probe = pool->take();
  if (probe->status() != 0) {
    throw Error(std::string("io_uring is not available here (") + std::strerror(-probe->status()) +
                "; containers often forbid it): read with O_DIRECT instead");
  }
  pool->give(std::move(probe));
  return pool;
}

}  // namespace berth

#else

namespace berth {

std::shared_ptr<UringPool> UringPool::create() {
  throw Error("this build of Berth has no io_uring: read with O_DIRECT instead");
}

}  // namespace berth

#endif
