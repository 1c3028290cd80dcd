// The cast loops for processors with AVX-512 (F, BW, DQ, VL); compiled with those flags.
#define BERTH_CAST_LOOPS cast_loops_avx512
#include "cuda/cast_loops.h"
