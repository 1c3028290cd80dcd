// The cast loops for processors with AVX-512 (F, BW, DQ, VL). This file is compiled for these.
#define BERTH_CAST_LOOPS cast_loops_avx512
#include "cuda/cast_loops.h"
