// A file descriptor that closes itself.
#pragma once

#include <utility>

namespace berth {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }  // -1: none
  // Closes it now; false with errno set where the file system reports a late failure.
  bool close();

 private:
  int fd_;
};

}  // namespace berth
