// What somebody probably meant who wrote a word that is not known.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

// The candidate nearest to `word` by edit distance, if any is near enough to be a likely typo.
// Capitals make no difference.
std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& candidates);

}  // namespace berth
