// Handing requests to the kernel, with a way out where it does not take them all.
#pragma once

#include <cerrno>
#include <functional>

namespace berth {

struct Submitted {
  unsigned taken = 0;  // of the requests, the first so many
  int error = 0;       // -errno where these are not all
};

// Calls `submit`, which returns how many requests were taken, or -errno, until `requests` are.
// Calls that were interrupted are made again. EAGAIN and EBUSY say that the kernel is short of
// memory or of space for results; after a few of them in a row it is left alone. Whatever was taken
// is in flight, and must be waited for.
inline Submitted submit_all(unsigned requests, const std::function<int()>& submit) {
  constexpr int kMostRefusals = 16;
  Submitted result;
  for (int refusals = 0; result.taken < requests;) {
    const int count = submit();
    if (count == -EINTR) continue;
    if (count > 0) {
      result.taken += static_cast<unsigned>(count);
      refusals = 0;
    } else if ((count != -EAGAIN && count != -EBUSY) || ++refusals == kMostRefusals) {
      result.error = count == 0 ? -EIO : count;
      return result;
    }
  }
  return result;
}

}  // namespace berth
