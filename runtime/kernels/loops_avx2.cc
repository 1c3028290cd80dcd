#define BERTH_LOOPS(name) name##_avx2
#include "runtime/kernels/attention_loops.h"
#include "runtime/kernels/delta_rule_loops.h"
#include "runtime/kernels/elementwise_loops.h"
#include "runtime/kernels/product_loops.h"
#include "runtime/kernels/quantize_loops.h"
#include "runtime/kernels/transposed_loops.h"
