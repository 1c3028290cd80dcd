#include "planner/checkpoint/safetensors/plain_header.h"

#include <algorithm>

namespace berth {

// Reads the usual metadata, {"format":"pt"}. No more than one entry is accepted, so that no key can
// come twice.
bool PlainHeader::metadata() {
  std::string_view text;
  if (!json_.take("{")) return false;
  if (json_.take("}")) return true;
  return json_.take("\"") && json_.string(text) && json_.take(":\"") && json_.string(text) &&
         json_.take("}");
}

inline bool PlainHeader::fields(PlainEntry& entry) {
  if (!json_.take("{\"dtype\":\"") || !json_.string(entry.dtype) || !json_.take(",\"shape\":["))
    return false;
  entry.shape = Shape();
  if (!json_.take("]")) {
    do {
      std::uint64_t size = 0;
      if (!json_.number(size)) return false;
      entry.shape.push_back(size);
    } while (json_.take(","));
    if (!json_.take("]")) return false;
  }
  return json_.take(",\"data_offsets\":[") && json_.number(entry.begin) && json_.take(",") &&
         json_.number(entry.end) && json_.take("]}");
}

bool PlainHeader::close() {
  complete_ = json_.take("}") && std::ranges::all_of(json_.rest(), [](char c) { return c == ' '; });
  return false;
}

bool PlainHeader::next(PlainEntry& entry) {
  if (!begun_) {
    begun_ = true;
    if (!json_.take("{\"") || !json_.string(entry.name)) return false;
    if (entry.name == "__metadata__") {
      if (!json_.take(":") || !metadata()) return false;
      if (!json_.take(",\"")) return close();
      if (!json_.string(entry.name)) return false;
    }
  } else {
    if (!json_.take(",\"")) return close();
    if (!json_.string(entry.name)) return false;
  }
  return entry.name != "__metadata__" && json_.take(":") && fields(entry);
}

}  // namespace berth
