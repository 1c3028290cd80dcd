#include "runtime/calibrate/kernels.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "berth/error.h"
#include "berth/tensor.h"
#include "planner/machine/sizes.h"
#include "runtime/calibrate/mapped_copy.h"
#include "runtime/calibrate/repeat.h"
#include "runtime/io/memory.h"
#include "runtime/kernels/activations.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/product.h"
#include "runtime/kernels/team.h"

namespace berth {
namespace {

constexpr std::size_t kMostPasses = 51;
// The bytes that all weights consist of. As float32 and bfloat16 they are 0.0115, as float16 1.06:
// whatever format reads them finds ordinary numbers, so nothing is slowed down by odd ones.
constexpr int kFill = 0x3C;

// Attention as models of 1 to 8 billion parameters have it: four heads share a KV head.
constexpr std::size_t kHeads = 32;
constexpr std::size_t kKvHeads = 8;
constexpr std::size_t kHeadSize = 64;
constexpr std::size_t kPositions = 1024;

class KernelBench {
 public:
  explicit KernelBench(const KernelOptions& options)
      : options_(options),
        team_(options.threads),
        memory_(options.weights, "measuring the kernels"),
        x_(std::size_t{KernelFigures::kPromptRows} *
               std::max(4 * options.width, kHeads * kHeadSize),
           0.5F),
        out_(x_.size()) {
    constexpr std::uint64_t kPart = 4u << 20;
    const std::size_t parts = (memory_.bytes() + kPart - 1) / kPart;
    team_.run(parts, [&](std::size_t part, std::size_t) {
      const std::uint64_t begin = part * kPart;
      std::memset(memory_.data() + begin, kFill, std::min(kPart, memory_.bytes() - begin));
    });
    if (options.folder.empty()) return;
    try {
      mapped_.emplace(std::span(memory_.data(), memory_.bytes()), options.folder);
    } catch (const Error& error) {
      notes_.push_back(std::string(error.what()) +
                       "; plain weights were measured in private memory");
    }
  }

  // All of it several times over, within the time: other users of memory come and go, and a format
  // whose only turn is in a quiet spell would seem faster than another.
  KernelFigures measure() {
    constexpr int kRounds = 5;
    std::vector<Products> products;
    for (const DType dtype : known_formats()) {
      for (const unsigned rows : KernelFigures::kRows) products.push_back(products_of(dtype, rows));
    }
    Others others;
    end_ = steady_seconds() + options_.seconds;
    for (int round = 0; round < kRounds; ++round) {
      if (round > 0 && steady_seconds() >= end_) break;
      // One share each, and three for what is not a product.
      constexpr std::size_t kOthers = 3;
      left_ = (products.size() + kOthers) * static_cast<std::size_t>(kRounds - round);
      for (Products& some : products) measure_products(some);
      measure_others(others);
    }
    KernelFigures figures;
    figures.instructions = instruction_set().name;
    figures.threads = team_.size();
    figures.notes = notes_;
    for (const Products& some : products) conclude(some, figures);
    figures.rates.attention = static_cast<double>(layer_cache_bytes()) / median(others.attention);
    figures.rates.prompt_attention = prompt_attention_flops() / median(others.prompt_attention);
    figures.rates.layer = median(others.layer);
    return figures;
  }

 private:
  static std::vector<DType> known_formats() {
    std::vector<DType> formats;
    for (int i = 0; i <= static_cast<int>(kLastDType); ++i) {
      const auto dtype = static_cast<DType>(i);
      if (matrix_format(dtype) && timed_as(dtype) == dtype) formats.push_back(dtype);
    }
    return formats;
  }

  // Calls `pass` again and again, within the next share of the time.
  void next(const std::function<void()>& pass) {
    Repeat several;
    several.seconds = (end_ - steady_seconds()) / static_cast<double>(left_--);
    several.most = kMostPasses;
    several.cancel = options_.cancel;
    repeat(several, [&] {
      pass();
      return 0.0;
    });
  }

  // Matrices of one size, one behind the other in memory, that are multiplied in passes. What
  // counts is the median of the products, not of the passes: most products are over before the
  // kernel gives a processor to somebody else, a pass is not.
  struct Row {
    MatrixFormat format;
    std::size_t group;
    std::size_t height;
    std::size_t width;
    std::size_t matrices;
    std::vector<double> seconds;  // of each product
    double bytes() const {
      const std::size_t tiles = height / kTileRows;
      return static_cast<double>(tiles * tile_bytes(format, width, group));
    }
    double a_product() const { return median(seconds); }
  };

  // The products of one format with so many positions: with matrices of two sizes, and with wide
  // ones, which take turns, so that what else runs slows all of them down.
  struct Products {
    std::string name;
    unsigned rows;
    Row large, small, wide;
  };

  Products products_of(DType dtype, unsigned rows) const {
    const MatrixFormat format = *matrix_format(dtype);
    const std::size_t group = group_columns(dtype);
    // Many positions take long, and use each weight so often that fewer weights will do: but so
    // many that making the activations ready counts as little as in a model.
    const bool prompt = rows == KernelFigures::kPromptRows;
    const std::size_t width = options_.width;
    const std::size_t wide_height = prompt ? width / 4 : width;
    const std::size_t narrow = std::max<std::size_t>(256, width / 4);
    return {weight_format_name(dtype),
            rows,
            {format, group, width, width, 0, {}},
            {format, group, 2 * narrow, narrow, 0, {}},
            {format, group, wide_height, 4 * width, 0, {}}};
  }

  void measure_products(Products& products) {
    const std::array<Row*, 3> all{&products.large, &products.small, &products.wide};
    for (Row* row : all) {
      if (row->matrices == 0) row->matrices = pieces(*row, products.rows);
    }
    next([&] {
      for (Row* row : all) {
        for (std::size_t i = 0; i < row->matrices; ++i) {
          row->seconds.push_back(multiply_one(*row, i, products.rows));
        }
      }
    });
  }

  // A product takes start + bytes / rate. Both follow from matrices of two sizes. Where they do not
  // tell, the larger ones alone are the rate. Wide ones have a rate of their own.
  static void conclude(const Products& products, KernelFigures& figures) {
    const auto& [name, rows, large, small, wide] = products;
    const double rate = (large.bytes() - small.bytes()) / (large.a_product() - small.a_product());
    const double plain = large.bytes() / large.a_product();
    const bool tells = rate > plain && rate < 1.5 * plain;
    const double used = tells ? rate : plain;
    const double start = std::max(0.0, small.a_product() - small.bytes() / used);
    figures.rates.products[name][rows] = used;
    figures.rates.starts[name][rows] = start;
    const double own = wide.a_product() > 2 * start ? wide.a_product() - start : wide.a_product();
    figures.rates.wide[name][rows] = wide.bytes() / own;
    if (rows != KernelFigures::kPromptRows) return;
    figures.flops[name] =
        2.0 * rows * static_cast<double>(large.height * large.width) / large.a_product();
  }

  // How many matrices a pass may take, so that some passes fit into a third of the next share of
  // the time: at most as many as fit into the memory.
  std::size_t pieces(const Row& row, unsigned rows) {
    const bool prompt = rows == KernelFigures::kPromptRows;
    const auto all = static_cast<std::size_t>(static_cast<double>(memory_.bytes()) / row.bytes());
    return fitting(prompt ? 1 : std::max<std::size_t>(1, all), 1.0 / 3, multiply_one(row, 0, rows));
  }

  // How many of `all` pieces of work, each of which takes `seconds`, a pass may do, so that some
  // passes fit into `share` of the next share of the time.
  std::size_t fitting(std::size_t all, double share, double seconds) const {
    constexpr double kPasses = 4;
    const double time = share * (end_ - steady_seconds()) / static_cast<double>(left_);
    const double fit = time / kPasses / std::max(1e-7, seconds);
    if (fit >= static_cast<double>(all)) return all;
    return fit < 1 ? 1 : static_cast<std::size_t>(fit);
  }

  // The seconds of the product with matrix `i`.
  double multiply_one(const Row& row, std::size_t i, std::size_t rows) {
    const bool mapped = mapped_ && !is_tiled(row.format);
    const std::byte* const data =
        (mapped ? mapped_->data() : memory_.data()) + i * static_cast<std::size_t>(row.bytes());
    const double start = steady_seconds();
    activations_.set(std::span(x_).first(rows * row.width), row.width, row.format,
                     usual_bits(row.format), &team_);
    const Product product{{row.format, row.height, row.width, data, row.height, row.group},
                          nullptr,
                          out_.data(),
                          row.height};
    multiply({&product, 1}, activations_, team_);
    return steady_seconds() - start;
  }

  static std::size_t layer_cache_bytes() {
    return 2 * kPositions * kKvHeads * cache_vector_bytes(CacheFormat::kBF16, kHeadSize);
  }
  CacheView cache(std::size_t layer) const {
    CacheView view;
    view.format = CacheFormat::kBF16;
    view.kv_heads = kKvHeads;
    view.key_dim = view.value_dim = kHeadSize;
    view.capacity = kPositions;
    view.keys = memory_.data() + layer * layer_cache_bytes();
    view.values = view.keys + layer_cache_bytes() / 2;
    return view;
  }

  // The seconds that attention of some positions takes over the cache of a layer.
  double attend(std::size_t layer, std::size_t first, std::size_t count) {
    AttentionSettings settings;
    settings.heads = kHeads;
    settings.scale = 0.125F;
    const double start = steady_seconds();
    berth::attend(cache(layer), settings, first, count, x_.data(), kHeads * kHeadSize, out_.data(),
                  space_, team_);
    return steady_seconds() - start;
  }
  // The seconds of what is not a product.
  struct Others {
    std::vector<double> attention;  // of one position over the cache of a layer
    std::vector<double> prompt_attention;
    std::vector<double> layer;
  };
  void measure_others(Others& others) {
    const std::size_t layers =
        fitting(memory_.bytes() / layer_cache_bytes(), 1, attend(0, kPositions - 1, 1));
    next([&] {
      for (std::size_t layer = 0; layer < layers; ++layer) {
        others.attention.push_back(attend(layer, kPositions - 1, 1));
      }
    });
    next([&] { others.prompt_attention.push_back(attend(0, 0, KernelFigures::kPromptRows)); });
    next([&] { others.layer.push_back(small_layers() / kSmallLayers); });
  }
  // 4 FLOPs for each pair of positions and channel: one product with the key, one with the value.
  static double prompt_attention_flops() {
    constexpr double kPairs = 0.5 * KernelFigures::kPromptRows * (KernelFigures::kPromptRows + 1);
    return 4.0 * kHeads * kHeadSize * kPairs;
  }

  // What a layer of a small model computes beside products and attention.
  static constexpr std::size_t kHidden = 1024;
  static constexpr int kSmallLayers = 64;
  double small_layers() {
    const double start = steady_seconds();
    for (int i = 0; i < kSmallLayers; ++i) {
      for (int norm = 0; norm < 2; ++norm) {
        rms_norm(x_.data(), x_.data(), kHidden, 1e-5F, out_.data());
      }
      activate(Gate::kSilu, out_.data(), out_.data() + 3 * kHidden, 3 * kHidden, out_.data());
      attend(0, 0, 1);  // of the first position: nothing is read
    }
    return steady_seconds() - start;
  }

  const KernelOptions& options_;
  ThreadTeam team_;
  HostArena memory_;
  std::optional<MappedCopy> mapped_;  // of the same bytes
  std::vector<std::string> notes_;
  std::vector<float> x_, out_;
  std::vector<float> space_;
  Activations activations_;
  std::size_t left_ = 1;  // shares of the time
  double end_ = 0;
};

}  // namespace

KernelFigures measure_kernels(const KernelOptions& options) {
  // One matrix of the widest format must fit, and the cache of one layer.
  const std::uint64_t least = std::max<std::uint64_t>(8u << 20, 16 * options.width * options.width);
  if (options.weights < least) {
    throw Error("the kernels: " + format_size(options.weights) +
                " is too little memory to measure with (" + format_size(least) + " are needed)");
  }
  return KernelBench(options).measure();
}

}  // namespace berth
