// Byte-pair encoding of one word: its characters, merged pair by pair in the order of the ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace berth {

// Immutable once built; const methods are safe from many threads.
class Bpe {
 public:
  struct Options {
    bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
    bool byte_fallback = false;  // an unknown character becomes its bytes' tokens <0x..>
    bool fuse_unknown = false;   // neighbouring unknown characters become one unknown token
    std::optional<std::uint32_t> unknown;
  };

  // False where the id is taken by another token already; the same token again takes the new id.
  bool add_token(std::string_view token, std::uint32_t id);
  // Merges are added in rank order. False where one of the three tokens is not in the vocabulary.
  bool add_merge(std::string_view left, std::string_view right);

  Options options;

  std::optional<std::uint32_t> id_of(std::string_view token) const;
  const std::string* token_of(std::uint32_t id) const;  // null where there is none
  std::size_t size() const { return tokens_.size(); }

  // Appends the ids of `word` (UTF-8) to `ids`. A character that neither the vocabulary, nor byte
  // fallback, nor an unknown token covers gives no id, as in Hugging Face tokenizers. Takes
  // O(n log n) for n characters.
  void encode(std::string_view word, std::vector<std::int64_t>& ids) const;

 private:
  struct Merge {
    std::uint32_t rank;
    std::uint32_t id;
  };
  std::vector<std::uint32_t> characters(std::string_view word) const;
  bool append_bytes(std::string_view character, std::vector<std::uint32_t>& ids) const;
  const Merge* merge_of(std::uint32_t left, std::uint32_t right) const;

  std::unordered_map<std::uint32_t, std::string> tokens_;  // nodes never move: ids_ views them
  std::unordered_map<std::string_view, std::uint32_t> ids_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left id << 32 | right id
  std::uint32_t next_rank_ = 0;
};

}  // namespace berth
