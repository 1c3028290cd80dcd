// The dequantisation loops for processors with AVX-512 (F, BW, DQ, VL); compiled with those flags.
#define BERTH_DEQUANT_LOOPS dequant_loops_avx512
#include "cuda/dequant_loops.h"
