// From metadata alone: which share of a model would be on GPUs of a machine that need not be here.
//
//   largest_gpu_share config.json 2x4090
#include <berth/berth.h>

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc != 3) throw berth::Error("usage: largest_gpu_share MODEL MACHINE");
  const berth::Model model = berth::open_model(argv[1], std::nullopt);
  berth::Machine machine = berth::read_machine_file(argv[2]);  // a name in configs/hardware, too
  berth::fill_defaults(machine);
  const berth::Plan plan = berth::make_plan(model.tree, machine, {});
  double on_gpus = 0;
  for (const berth::DeviceLedger& device : plan.devices) {
    if (device.kind == berth::DeviceKind::kCuda) on_gpus += static_cast<double>(device.weights);
  }
  std::printf("%s: %.0f %% on GPUs, by the templates in %s\n", model.tree.name.c_str(),
              100 * on_gpus / static_cast<double>(model.tree.bytes()),
              berth::find_config_dir().c_str());
  return plan.fits() ? 0 : 2;
} catch (const berth::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
