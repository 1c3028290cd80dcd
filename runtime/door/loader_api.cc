#include "runtime/door/loader_api.h"

#include "cuda/device.h"
#include "cuda/packed_product.h"
#include "planner/base/unfinished.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/convert/leftovers.h"
#include "runtime/io/memory.h"

const berth::LoaderApi* berth_loader_api() {
  static const berth::LoaderApi api{berth::kLoaderApiVersion, berth::load,
                                    berth::load_naively,      berth::host_memory,
                                    berth::cuda_device_count, berth::has_packed_kernels,
                                    berth::measure_ram,       berth::measure_kernels,
                                    berth::measure_disk,      berth::measure_gpus,
                                    berth::make_gpu_bench,    berth::checksum_text,
                                    berth::convert,           berth::convert_for_cpu,
                                    berth::clear_leftovers,   berth::remove_unfinished};
  return &api;
}
