// The block loops for processors with AVX2; compiled with the flags that its name says.
#define BERTH_BLOCK_LOOPS block_loops_avx2
#include "cuda/block_loops.h"
