// Where Unicode, as the reference knows it, differs from what Debian's Oniguruma knows: what the
// classes gain and lose, and letters that are one but for their case.
#pragma once

#include <cstdint>
#include <span>

namespace berth {

struct CodeRange {
  std::uint32_t first;
  std::uint32_t last;
};

struct ClassChange {
  const char* name;  // of a property, as Oniguruma takes it
  std::span<const CodeRange> added;
  std::span<const CodeRange> removed;
};

struct CasePair {
  std::uint32_t upper;
  std::uint32_t lower;
};

std::span<const ClassChange> reference_class_changes();
std::span<const CasePair> reference_case_pairs();

}  // namespace berth
