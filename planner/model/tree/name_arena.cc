// Names of a model (berth/model.h).

#include <algorithm>
#include <cstring>
#include <utility>

#include "berth/model.h"

namespace berth {
namespace {

constexpr std::size_t kBlock = 64u << 10;

}  // namespace

NameArena::Blocks& NameArena::blocks() {
  if (!blocks_) blocks_ = std::make_shared<Blocks>();
  return *blocks_;
}

void NameArena::reserve(std::size_t bytes) {
  Blocks& blocks = this->blocks();
  if (static_cast<std::size_t>(blocks.end - blocks.next) >= bytes) return;
  bytes = std::max(bytes, kBlock);
  blocks.all.push_back(std::make_unique_for_overwrite<char[]>(bytes));
  blocks.next = blocks.all.back().get();
  blocks.end = blocks.next + bytes;
}

char* NameArena::take(std::size_t bytes) {
  reserve(bytes);
  return std::exchange(blocks_->next, blocks_->next + bytes);
}

Name NameArena::add(std::string_view text) {
  if (text.empty()) return {};
  char* const space = take(text.size());
  std::memcpy(space, text.data(), text.size());
  return Name({space, text.size()});
}

Name NameArena::join(Name parent, std::string_view child) {
  if (parent.empty()) return add(child);
  const std::size_t size = parent.size() + 1 + child.size();
  Blocks& blocks = this->blocks();
  const bool last = parent.data() + parent.size() == blocks.next;
  char* name = nullptr;
  if (last && static_cast<std::size_t>(blocks.end - blocks.next) > child.size()) {
    take(1 + child.size());                   // the parent was written last: the name goes on
    name = const_cast<char*>(parent.data());  // it is our own block, so writing is fine
  } else {
    name = take(size);
    std::memcpy(name, parent.data(), parent.size());
  }
  name[parent.size()] = '.';
  std::memcpy(name + parent.size() + 1, child.data(), child.size());
  return Name({name, size});
}

}  // namespace berth
