// The cast loops for processors with AVX2. This file is compiled with -mavx2.
#define BERTH_CAST_LOOPS cast_loops_avx2
#include "cuda/cast_loops.h"
