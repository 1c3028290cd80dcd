// The cast loops for processors with AVX2; compiled with the flags that its name says.
#define BERTH_CAST_LOOPS cast_loops_avx2
#include "cuda/cast_loops.h"
