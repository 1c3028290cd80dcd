// The block loops for processors with AVX2. This file is compiled with -mavx2.
#define BERTH_BLOCK_LOOPS block_loops_avx2
#include "cuda/block_loops.h"
