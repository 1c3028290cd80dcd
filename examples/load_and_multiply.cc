// Plans a model for host RAM, loads it, and multiplies with one of its matrices. No libtorch.
//
//   load_and_multiply models/SmolLM2-135M-Instruct model.layers.0.mlp.down_proj.weight
#include <berth/berth.h>

#include <cstdio>
#include <vector>

int main(int argc, char** argv) try {
  if (argc != 3) throw berth::Error("usage: load_and_multiply MODEL TENSOR");
  const berth::Model model = berth::open_model(argv[1], berth::DType::kF32);
  berth::Machine machine = berth::budget_machine({{"cpu", 64ull << 30}});
  berth::fill_defaults(machine);
  const berth::Plan plan = berth::make_plan(model.tree, machine, {});
  if (!plan.fits()) throw berth::Error("does not fit: " + plan.shortfall->cause);

  const auto loaded = berth::load(model, plan, {});
  for (berth::TensorId id = 0; id < model.tree.tensors.size(); ++id) {
    const berth::LoadedTensor& tensor = loaded->tensor(id);
    if (model.tree.tensors[id].name != argv[2] || tensor.rank != 2) continue;
    const auto* weight = reinterpret_cast<const float*>(tensor.data);
    const std::vector<float> x(tensor.shape[1], 1.0f);
    float y = 0;  // the first of W x
    for (std::size_t i = 0; i < x.size(); ++i) y += weight[i] * x[i];
    std::printf("%s [%zu, %zu], first of W x: %g\n", argv[2], std::size_t(tensor.shape[0]),
                std::size_t(tensor.shape[1]), y);
    return 0;
  }
  throw berth::Error(std::string(argv[2]) + ": no such matrix");
} catch (const berth::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
