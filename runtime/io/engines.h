// The table of read engines: their names, and which of them read past the page cache. All of it is
// in this header, because the command line needs the names and does not link the loader.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "berth/load.h"

namespace berth {

struct IoEngineRow {
  IoEngine engine;
  std::string_view name;
  bool direct = false;  // reads with O_DIRECT where the file system allows that
};

// In the order of IoEngine, so that an engine is an index.
inline constexpr std::array kIoEngines{
    IoEngineRow{IoEngine::kAuto, "auto"},
    IoEngineRow{IoEngine::kBuffered, "buffered"},
    IoEngineRow{IoEngine::kDirect, "direct", true},
    IoEngineRow{IoEngine::kUring, "uring", true},
};

constexpr std::size_t index_of(IoEngine engine) { return static_cast<std::size_t>(engine); }
static_assert(std::ranges::is_sorted(kIoEngines, std::ranges::less_equal(), &IoEngineRow::engine) &&
              index_of(kIoEngines.back().engine) + 1 == kIoEngines.size());

constexpr const IoEngineRow& row_of(IoEngine engine) { return kIoEngines[index_of(engine)]; }

inline std::vector<std::string_view> io_engine_names() {
  std::vector<std::string_view> names;
  for (const IoEngineRow& row : kIoEngines) names.push_back(row.name);
  return names;
}

inline std::optional<IoEngine> find_io_engine(std::string_view name) {
  const auto found = std::ranges::find(kIoEngines, name, &IoEngineRow::name);
  return found == kIoEngines.end() ? std::nullopt : std::optional(found->engine);
}

}  // namespace berth
