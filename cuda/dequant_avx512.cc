// The dequantisation loops for processors with AVX-512 (F, BW, DQ, VL). This file is compiled for
// these.
#define BERTH_DEQUANT_LOOPS dequant_loops_avx512
#include "cuda/dequant_loops.h"
