#include "planner/base/descriptor.h"

#include <unistd.h>

namespace berth {

bool Descriptor::close() { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

}  // namespace berth
