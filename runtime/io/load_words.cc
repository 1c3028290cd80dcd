// The names of read engines (berth/load.h).
#include <cstddef>
#include <iterator>

#include "berth/load.h"

namespace berth {
namespace {

constexpr std::string_view kEngineNames[] = {"auto", "buffered", "direct", "uring"};

}  // namespace

std::string_view io_engine_name(IoEngine engine) {
  return kEngineNames[static_cast<std::size_t>(engine)];
}

std::optional<IoEngine> parse_io_engine(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kEngineNames); ++i) {
    if (kEngineNames[i] == name) return static_cast<IoEngine>(i);
  }
  return std::nullopt;
}

}  // namespace berth
