// Reorders in device memory: in each step of a grid-stride loop over a box of units, a thread moves
// one word. The dimension with the smallest step where the units go is the innermost, so stores
// coalesce; loads do where whole rows move, but not where a matrix is transposed.
#include <algorithm>
#include <string>

#include "berth/error.h"
#include "cuda/check.h"
#include "cuda/reorder.h"

namespace berth {
namespace {

// Steps in words.
struct BoxDims {
  std::size_t rank = 0;
  ReorderDim dims[kMostReorderDims];  // the innermost last
};

template <typename Word>
__global__ void reorder_kernel(const Word* from, std::size_t count, std::size_t unit, BoxDims box,
                               Word* to) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += stride) {
    std::size_t rest = i / unit;
    std::size_t source = i % unit;
    std::size_t target = source;
    for (std::size_t k = box.rank; k-- > 0;) {
      const ReorderDim& dim = box.dims[k];
      const std::size_t index = rest % dim.size;
      rest /= dim.size;
      source += index * dim.from;
      target += index * dim.to;
    }
    to[target] = from[source];
  }
}

template <typename Word>
void launch(const char* from, const ReorderBox& box, char* to, cudaStream_t stream) {
  constexpr std::size_t kThreads = 256;
  constexpr std::size_t kMostGroups = 4096;
  BoxDims words;
  std::size_t count = box.unit / sizeof(Word);
  for (const ReorderDim& dim : box.dims) {
    words.dims[words.rank++] = {dim.size, dim.from / sizeof(Word), dim.to / sizeof(Word)};
    count *= dim.size;
  }
  std::sort(words.dims, words.dims + words.rank,
            [](const ReorderDim& a, const ReorderDim& b) { return a.to > b.to; });
  const std::size_t wanted = (count + kThreads - 1) / kThreads;
  const auto groups = static_cast<unsigned>(wanted < kMostGroups ? wanted : kMostGroups);
  reorder_kernel<Word><<<groups, kThreads, 0, stream>>>(reinterpret_cast<const Word*>(from), count,
                                                        box.unit / sizeof(Word), words,
                                                        reinterpret_cast<Word*>(to));
  BERTH_CUDA_CHECK(cudaGetLastError(), "launching a reordering");
}

}  // namespace

void reorder_on_device(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                       void* to, CudaStreamHandle handle) {
  auto* stream = static_cast<cudaStream_t>(handle);
  if (order.dims.size() > kMostReorderDims) {
    throw Error("a tensor of " + std::to_string(order.dims.size()) +
                " dimensions cannot be put in order on a GPU");
  }
  for (const ReorderBox& box : boxes_of(order, at, bytes)) {
    const char* source = static_cast<const char*>(from) + box.from;
    char* target = static_cast<char*>(to) + box.to;
    std::size_t steps = reinterpret_cast<std::uintptr_t>(source) |
                        reinterpret_cast<std::uintptr_t>(target) | box.unit;
    for (const ReorderDim& dim : box.dims) steps |= dim.from | dim.to;
    if (steps % 8 == 0) {
      launch<std::uint64_t>(source, box, target, stream);
    } else if (steps % 4 == 0) {
      launch<std::uint32_t>(source, box, target, stream);
    } else if (steps % 2 == 0) {
      launch<std::uint16_t>(source, box, target, stream);
    } else {
      launch<std::uint8_t>(source, box, target, stream);
    }
  }
}

}  // namespace berth
