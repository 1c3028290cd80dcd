// The dequantisation loops for processors with AVX2; compiled with the flags that its name says.
#define BERTH_DEQUANT_LOOPS dequant_loops_avx2
#include "cuda/dequant_loops.h"
