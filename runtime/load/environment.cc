#include "runtime/load/environment.h"

#include "berth/loader.h"
#include "berth/planner.h"

namespace berth {

LoadEnvironment real_environment() {
  LoadEnvironment environment;
  environment.recheck = recheck;
  environment.probe = probe_machine;
  return environment;
}

std::unique_ptr<LoadedModel> load(const Model& model, const Plan& plan,
                                  const LoadOptions& options) {
  return load(model, plan, options, real_environment());
}

}  // namespace berth
