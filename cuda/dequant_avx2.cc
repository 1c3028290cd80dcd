// The dequantisation loops for processors with AVX2. This file is compiled with -mavx2.
#define BERTH_DEQUANT_LOOPS dequant_loops_avx2
#include "cuda/dequant_loops.h"
