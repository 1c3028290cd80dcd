#include "runtime/text/bpe.h"

#include <queue>

#include "runtime/text/code_points.h"

namespace berth {
namespace {

constexpr std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
  return std::uint64_t{left} << 32 | right;
}

std::string fallback_token(char c) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  const auto byte = static_cast<std::uint8_t>(c);
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

// A token of a word that is being merged. The symbols of the word are a doubly linked list in a
// vector; kNoSymbol marks both ends.
constexpr std::int32_t kNoSymbol = -1;
struct Symbol {
  std::uint32_t id;
  std::int32_t previous;
  std::int32_t next;
  bool merged_away = false;
};

struct Candidate {
  std::uint32_t rank;
  std::int32_t at;  // the left symbol; equal ranks merge from left to right
  std::uint32_t id;
  bool operator<(const Candidate& other) const {  // the top of the queue merges first
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

}  // namespace

bool Bpe::add_token(std::string_view token, std::uint32_t id) {
  const auto before = ids_.find(token);
  if (before != ids_.end()) {
    if (before->second == id) return true;
    const std::uint32_t old = before->second;
    ids_.erase(before);
    tokens_.erase(old);
  }
  const auto [entry, fresh] = tokens_.try_emplace(id, token);
  if (!fresh) return false;
  ids_.emplace(entry->second, id);
  return true;
}

bool Bpe::add_merge(std::string_view left, std::string_view right) {
  const auto left_id = id_of(left);
  const auto right_id = id_of(right);
  const auto whole = id_of(std::string(left) + std::string(right));
  if (!left_id || !right_id || !whole) return false;
  merges_[pair_key(*left_id, *right_id)] = {next_rank_++, *whole};
  return true;
}

std::optional<std::uint32_t> Bpe::id_of(std::string_view token) const {
  const auto entry = ids_.find(token);
  return entry == ids_.end() ? std::nullopt : std::optional(entry->second);
}

const std::string* Bpe::token_of(std::uint32_t id) const {
  const auto entry = tokens_.find(id);
  return entry == tokens_.end() ? nullptr : &entry->second;
}

const Bpe::Merge* Bpe::merge_of(std::uint32_t left, std::uint32_t right) const {
  const auto entry = merges_.find(pair_key(left, right));
  return entry == merges_.end() ? nullptr : &entry->second;
}

// Appends the byte tokens of a character. If a byte has none, appends nothing and returns false.
bool Bpe::append_bytes(std::string_view character, std::vector<std::uint32_t>& ids) const {
  const std::size_t before = ids.size();
  for (const char byte : character) {
    const auto id = id_of(fallback_token(byte));
    if (!id) {
      ids.resize(before);
      return false;
    }
    ids.push_back(*id);
  }
  return true;
}

std::vector<std::uint32_t> Bpe::characters(std::string_view word) const {
  std::vector<std::uint32_t> ids;
  ids.reserve(word.size());
  // An unknown token is held back until it is clear that the next character is not fused into it.
  // Byte tokens do not end this and so come before it, as in Hugging Face's tokenizers.
  bool unknown_held = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t begin = at;
    next_code_point(word, at);
    const std::string_view character = word.substr(begin, at - begin);
    const auto id = id_of(character);
    if (!id && options.byte_fallback && append_bytes(character, ids)) continue;
    if (!id && !options.unknown) continue;
    if (unknown_held && (id || !options.fuse_unknown)) ids.push_back(*options.unknown);
    unknown_held = !id;
    if (id) ids.push_back(*id);
  }
  if (unknown_held) ids.push_back(*options.unknown);
  return ids;
}

void Bpe::encode(std::string_view word, std::vector<std::int64_t>& ids) const {
  if (options.ignore_merges) {
    if (const auto id = id_of(word)) {
      ids.push_back(*id);
      return;
    }
  }
  const auto characters_of_word = characters(word);
  const auto count = static_cast<std::int32_t>(characters_of_word.size());
  std::vector<Symbol> symbols;
  symbols.reserve(characters_of_word.size());
  for (std::int32_t i = 0; i < count; ++i) {
    symbols.push_back({characters_of_word[static_cast<std::size_t>(i)], i - 1,
                       i + 1 < count ? i + 1 : kNoSymbol});
  }
  const auto symbol = [&](std::int32_t i) -> Symbol& {
    return symbols[static_cast<std::size_t>(i)];
  };

  std::priority_queue<Candidate> queue;
  const auto offer = [&](std::int32_t left) {
    if (left == kNoSymbol || symbol(left).next == kNoSymbol) return;
    if (const Merge* merge = merge_of(symbol(left).id, symbol(symbol(left).next).id)) {
      queue.push({merge->rank, left, merge->id});
    }
  };
  for (std::int32_t i = 0; i < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbol(top.at);
    if (left.merged_away || left.next == kNoSymbol) continue;
    // The pair may have changed since it was offered: it counts only if it still gives this merge.
    const Merge* merge = merge_of(left.id, symbol(left.next).id);
    if (merge == nullptr || merge->id != top.id) continue;
    Symbol& right = symbol(left.next);
    right.merged_away = true;
    left.id = top.id;
    left.next = right.next;
    if (left.next != kNoSymbol) symbol(left.next).previous = top.at;
    offer(left.previous);
    offer(top.at);
  }
  for (std::int32_t i = count == 0 ? kNoSymbol : 0; i != kNoSymbol; i = symbol(i).next) {
    ids.push_back(symbol(i).id);
  }
}

}  // namespace berth
