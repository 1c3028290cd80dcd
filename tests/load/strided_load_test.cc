// Tensors whose elements stand in any order in their file, as the transposed, expanded and sliced
// views of PyTorch's files do: loaded to every kind of device, cast or not, and converted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "berth/loader.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using testing::TempFolder;
using testing::TestTensor;

struct View {
  Shape shape;
  Shape strides;
  std::uint64_t offset = 0;
};

std::uint64_t span_of(const View& view) {
  std::uint64_t span = 1;
  for (std::size_t k = 0; k < view.shape.size(); ++k) {
    span += (view.shape[k] - 1) * view.strides[k];
  }
  return span;
}

// Up to four dimensions whose steps may be anything: they skip, repeat and overlap.
View random_view(std::uint64_t elements, std::mt19937& random) {
  while (true) {
    View view;
    for (std::size_t rank = 1 + random() % 4; rank > 0; --rank) {
      view.shape.push_back(1 + random() % 40);
      view.strides.push_back(random() % 5 == 0 ? 0 : random() % (1 + elements / 10));
    }
    const std::uint64_t span = span_of(view);
    if (span > elements) continue;
    view.offset = random() % (elements - span + 1);
    return view;
  }
}

// The elements of a view one by one, from the bytes of what it is a view of.
std::vector<char> gather(const View& view, const std::vector<char>& bytes, std::uint64_t width) {
  std::uint64_t count = 1;
  for (const std::uint64_t size : view.shape) count *= size;
  std::vector<char> out;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::uint64_t at = view.offset;
    for (std::size_t k = view.shape.size(); k-- > 0; rest /= view.shape[k]) {
      at += rest % view.shape[k] * view.strides[k];
    }
    const auto* first = bytes.data() + at * width;
    out.insert(out.end(), first, first + width);
  }
  return out;
}

// Makes the stored tensor of `id` a view of what it was.
void make_view(Model& model, TestTensor& tensor, TensorId id, const View& view) {
  TensorInfo& info = model.checkpoint->tensors[model.tree.tensors[id].source];
  const std::uint64_t width = dtype_bits(info.dtype) / 8;
  tensor.bytes = gather(view, tensor.bytes, width);
  tensor.shape = info.shape = model.tree.tensors[id].shape = view.shape;
  model.tree.tensors[id].rearranged = true;
  info.begin += view.offset * width;
  info.end = info.begin + span_of(view) * width;
  model.checkpoint->forms.push_back({view.shape, view.strides});
  info.form = static_cast<std::uint32_t>(model.checkpoint->forms.size());
}

std::vector<TestTensor> make_tensors(const std::vector<std::string>& devices, bool cast) {
  std::vector<TestTensor> tensors;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kU8, DType::kI64}) {
    for (std::size_t i = 0; i < 6; ++i) {
      TestTensor tensor;
      tensor.name = "t" + std::to_string(tensors.size());
      tensor.stored = tensor.dtype = dtype;
      if (cast && i % 2 == 0 && is_convertible(dtype)) {
        tensor.dtype = dtype == DType::kF32 ? DType::kBF16 : DType::kF32;
      }
      tensor.shape = i == 0 ? Shape{400'000} : Shape{20 + 997 * i};
      tensor.device = devices[tensors.size() % devices.size()];
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

// The first of each dtype is a large matrix that is transposed, in chunks that cut its rows; the
// last stays as it is.
void make_views(Model& model, std::vector<TestTensor>& tensors, std::mt19937& random) {
  for (TensorId id = 0; id < tensors.size(); ++id) {
    const std::uint64_t elements = tensors[id].shape[0];
    if (id % 6 == 0) make_view(model, tensors[id], id, {{500, 800}, {1, 500}, 0});
    if (id % 6 != 0 && id % 6 != 5) {
      make_view(model, tensors[id], id, random_view(elements, random));
    }
  }
}

TEST(StridedLoad, PutsElementsInOrderOnEveryDevice) {
  unsigned seed = 0;
  for (const CpuMemory memory : {CpuMemory::kMmap, CpuMemory::kPrivate}) {
    for (const bool odd : {false, true}) {
      SCOPED_TRACE(++seed);
      std::mt19937 random(seed);
      const TempFolder folder;
      std::vector<TestTensor> tensors = make_tensors({"0", "1", "cpu", "disk"}, true);
      Model model = testing::write_model(folder.path(), tensors, 1, random, odd);
      make_views(model, tensors, random);
      const Plan plan = testing::make_test_plan(model, tensors, memory);
      LoadOptions options;
      options.emulate = true;
      options.staging = 1u << 20;
      options.offload_folder = folder.path();
      const auto loaded = load(model, plan, options);
      expect_loaded(model, plan, tensors, *loaded);
    }
  }
}

TEST(StridedLoad, ConvertWritesRowMajorTensors) {
  std::mt19937 random(9);
  const TempFolder folder;
  std::vector<TestTensor> tensors = make_tensors({"cpu"}, true);
  Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  make_views(model, tensors, random);
  std::vector<ConvertTensor> wanted;
  for (TensorId id = 0; id < tensors.size(); ++id) {
    wanted.push_back({tensors[id].name, model.tree.tensors[id].source, tensors[id].dtype});
  }
  ConvertOptions options;
  options.staging = 1u << 20;
  convert(*model.checkpoint, wanted, {}, folder.path() / "out", options);

  const Model written = open_model(folder.path() / "out/model.safetensors", std::nullopt);
  std::ifstream in(folder.path() / "out/model.safetensors", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  ASSERT_EQ(written.checkpoint->tensors.size(), tensors.size());
  for (const TensorInfo& info : written.checkpoint->tensors) {
    const auto tensor = std::ranges::find(tensors, info.name, &TestTensor::name);
    ASSERT_NE(tensor, tensors.end());
    EXPECT_EQ(info.shape, tensor->shape) << info.name;
    EXPECT_EQ(info.dtype, tensor->dtype) << info.name;
    const std::vector<char> expected = testing::in_memory(*tensor);
    EXPECT_EQ(bytes.substr(info.begin, info.bytes()), std::string(expected.begin(), expected.end()))
        << info.name;
  }
}

}  // namespace
}  // namespace berth
