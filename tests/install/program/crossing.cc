// What crosses the border of libberth_loader.so arrives as what it is: exceptions of both types, a
// LoadedModel, and a model and a plan that this program's own copy of the planner has made.
//
//   crossing FILE.safetensors    # prints "crossed", or what went wrong
#include <berth/berth.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <typeinfo>

#include "berth/planner.h"

namespace {

std::string thrown_by_load(const berth::Model& model, const berth::Plan& plan,
                           const berth::LoadOptions& options) {
  try {
    berth::load(model, plan, options);
  } catch (const berth::Interrupted& interrupted) {
    return typeid(interrupted) == typeid(berth::Interrupted) ? "Interrupted" : "another type";
  } catch (const berth::Error& error) {
    return typeid(error) == typeid(berth::Error) ? "Error" : "another type";
  }
  return "nothing";
}

std::string trouble(const char* file) {
  berth::set_config_dir("/nowhere");  // of this program's planner; the loader needs no such folder
  const berth::Model model = berth::open_model(file, std::nullopt);
  const berth::Machine machine = berth::budget_machine({{"cpu", 64ull << 30}});
  berth::Request request;
  request.cpu_memory = berth::CpuMemory::kPrivate;  // read, not mapped: so that it can be cancelled
  const berth::Plan plan = berth::make_plan(model.tree, machine, request);

  std::atomic<bool> stop = true;
  berth::LoadOptions options;
  options.cancel = &stop;
  if (const auto type = thrown_by_load(model, plan, options); type != "Interrupted") {
    return "a cancelled load threw " + type;
  }
  options = {};
  options.staging = 1;
  if (const auto type = thrown_by_load(model, plan, options); type != "Error") {
    return "a load without staging threw " + type;
  }
  const auto loaded = berth::load(model, plan, {});
  if (loaded->report().tensors != model.tree.tensors.size()) return "tensors are missing";
  try {
    loaded->tensor(1'000'000);
    return "a tensor that is not there was given";
  } catch (const berth::Error&) {
  }
  if (berth::parse_io_engine(berth::io_engine_name(berth::IoEngine::kUring)) !=
      berth::IoEngine::kUring) {
    return "an engine lost its name";
  }
  return berth::host_memory().rss > 0 ? "" : "no memory is used";
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string found = argc == 2 ? trouble(argv[1]) : "usage: crossing FILE.safetensors";
  std::puts(found.empty() ? "crossed" : found.c_str());
  return found.empty() ? 0 : 1;
} catch (const berth::Error& error) {
  std::printf("error: %s\n", error.what());
  return 1;
}
