// The block loops for processors with AVX-512 (F, BW, DQ, VL). This file is compiled for these.
#define BERTH_BLOCK_LOOPS block_loops_avx512
#include "cuda/block_loops.h"
