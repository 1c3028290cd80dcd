#include "runtime/door/reference_api.h"

#include "planner/base/unfinished.h"
#include "runtime/exec/reference_decoder.h"

const berth::ReferenceApi* berth_reference_api() {
  static const berth::ReferenceApi api{berth::kReferenceApiVersion, &berth::make_reference_decoder,
                                       &berth::remove_unfinished};
  return &api;
}
