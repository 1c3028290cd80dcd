// Whether a sanitizer watches this build (BERTH_SANITIZED), and what tests then do less of.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // GCC
#define BERTH_SANITIZED
#elif defined(__has_feature)  // clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BERTH_SANITIZED
#endif
#endif

namespace berth {

// Which share of its random or many instances a test tries: all of them (1), but under a sanitizer,
// which makes each ten times as slow, one in 24. What a sanitizer finds there it finds in a few,
// and coverage (BERTH_FEW_INSTANCES) counts no more lines in more of them.
#if defined(BERTH_SANITIZED) || defined(BERTH_FEW_INSTANCES)
inline constexpr int kInstanceShare = 24;
#else
inline constexpr int kInstanceShare = 1;
#endif

// Whether a test that counts its instances in `turn` tries the next one: each of `share` in turn.
constexpr bool is_its_turn(unsigned& turn, int share = kInstanceShare) {
  return turn++ % static_cast<unsigned>(share) == 0;
}

}  // namespace berth
