// Which share of its random or many instances a test tries.
#pragma once

namespace berth {

// All of them (1), but under a sanitizer, which makes each ten times as slow, one in 24: what a
// sanitizer finds there it finds in a few.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kInstanceShare = 24;
#else
inline constexpr int kInstanceShare = 1;
#endif

}  // namespace berth
