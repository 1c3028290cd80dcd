// Measures the products of runtime/kernels, by format and by how many positions are computed at
// once, beside the plain read of as many bytes by as many threads.
//
//   kernels_bench [--gib N] [--rounds N] [--threads N] [--columns N] [--formats A,B,...]
//                 [--batches 1,4,...]
//
// Each arm reads all weights once: 1 GiB, and an eighth of that from 64 positions on, where not
// memory but the processor is the limit. It is timed between two plain reads, and its share is the
// ratio to their mean. Arms are interleaved over the rounds. The table has medians; what stands in
// brackets is the best round. One table on stdout.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/cast.h"
#include "runtime/kernels/product.h"

namespace berth {
namespace {

struct Options {
  double gib = 1;
  std::size_t rounds = 5;
  std::size_t threads = 0;
  std::size_t columns = 2048;
  std::vector<std::string> formats;
  std::vector<std::size_t> batches = {1, 4, 8, 64, 512};
};

struct Named {
  const char* name;
  MatrixFormat format;
};
constexpr Named kFormats[] = {
    {"F32", MatrixFormat::kF32},   {"F16", MatrixFormat::kF16},   {"BF16", MatrixFormat::kBF16},
    {"Q8_0", MatrixFormat::kQ8_0}, {"Q4_0", MatrixFormat::kQ4_0}, {"Q4_1", MatrixFormat::kQ4_1},
    {"Q5_0", MatrixFormat::kQ5_0}, {"Q5_1", MatrixFormat::kQ5_1}, {"Q4_K", MatrixFormat::kQ4_K},
    {"Q5_K", MatrixFormat::kQ5_K}, {"Q6_K", MatrixFormat::kQ6_K},
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "kernels_bench: %s\n", what.c_str());
  std::exit(64);
}

std::vector<std::string> items(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    out.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return out;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (i + 1 == argc) fail(std::string(flag) + " needs a value");
    const char* const value = argv[++i];
    if (flag == "--gib") {
      options.gib = std::atof(value);
    } else if (flag == "--rounds") {
      options.rounds = std::strtoul(value, nullptr, 10);
    } else if (flag == "--threads") {
      options.threads = std::strtoul(value, nullptr, 10);
    } else if (flag == "--columns") {
      options.columns = std::strtoul(value, nullptr, 10);
    } else if (flag == "--formats") {
      options.formats = items(value);
    } else if (flag == "--batches") {
      options.batches.clear();
      for (const std::string& item : items(value)) {
        options.batches.push_back(std::strtoul(item.c_str(), nullptr, 10));
      }
    } else {
      fail("no such flag: " + std::string(flag));
    }
  }
  if (options.gib <= 0 || options.rounds == 0 || options.columns == 0 ||
      options.columns % 256 != 0 || std::ranges::count(options.batches, 0u) > 0) {
    fail("sizes and counts are positive, and columns a multiple of 256");
  }
  return options;
}

// 64 rows as stored: floats near 0, or any codes with scales of 0.01.
std::vector<std::byte> some_rows(MatrixFormat format, std::size_t columns) {
  constexpr std::size_t kRows = 64;
  std::mt19937 random(1);
  const std::size_t bytes = kRows * stored_row_bytes(format, columns);
  std::vector<std::byte> out(bytes);
  if (!is_tiled(format)) {
    std::vector<float> values(kRows * columns);
    for (float& value : values) value = std::normal_distribution<float>()(random);
    const FloatFormat to = format == MatrixFormat::kF32   ? FloatFormat::kF32
                           : format == MatrixFormat::kF16 ? FloatFormat::kF16
                                                          : FloatFormat::kBF16;
    cast_on_host(values.data(), FloatFormat::kF32, out.data(), to, values.size());
    return out;
  }
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  const float scales[2] = {0.01F, 0.01F};
  const std::size_t block = stored_row_bytes(format, block_elements(format));
  for (std::size_t at = 0; at < bytes; at += block) {
    const std::size_t scale = format == MatrixFormat::kQ6_K ? block - 2 : 0;
    // Where a format has no minimum, these are two codes.
    cast_on_host(scales, FloatFormat::kF32, out.data() + at + scale, FloatFormat::kF16,
                 scale == 0 ? 2 : 1);
  }
  return out;
}

// Anonymous memory in huge pages.
std::byte* map(std::size_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) fail("no memory for the weights");
  madvise(at, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(at);
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::uint64_t read_sum;  // so that no compiler leaves out the reads

// Bytes a second of a read that only adds up words.
double plain_read(const std::byte* data, std::size_t bytes, ThreadTeam& team) {
  using Words = std::uint64_t __attribute__((vector_size(16)));
  constexpr std::size_t kLine = 64;
  const std::size_t lines = bytes / kLine;
  const std::size_t parts = team.parts(lines, 4096);
  std::vector<std::uint64_t> sums(team.size() * 8);
  const double took = seconds([&] {
    team.run(parts, [&](std::size_t part, std::size_t thread) {
      Words sums_of_line[4] = {};
      for (std::size_t i = lines * part / parts; i < lines * (part + 1) / parts; ++i) {
        Words words[4];
        std::memcpy(words, data + i * kLine, kLine);
        for (int w = 0; w < 4; ++w) sums_of_line[w] += words[w];
      }
      for (const Words& sum : sums_of_line) sums[thread * 8] += sum[0] ^ sum[1];
    });
  });
  for (const std::uint64_t sum : sums) read_sum += sum;
  return static_cast<double>(bytes) / took;
}

struct Arm {
  Named format;
  std::size_t batch;
  std::vector<double> bytes;   // a second, of weights
  std::vector<double> flops;   // a second
  std::vector<double> shares;  // of the plain read
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

void measure(Arm& arm, std::byte* data, std::size_t capacity, std::size_t columns,
             ThreadTeam& team) {
  const MatrixFormat format = arm.format.format;
  const std::size_t row_bytes = stored_row_bytes(format, columns);
  const std::size_t rows = capacity / (arm.batch < 64 ? 1 : 8) / row_bytes / 64 * 64;
  const std::size_t bytes = rows * row_bytes;
  const Matrix matrix{format, rows, columns, data, is_tiled(format) ? rows : 0};
  std::mt19937 random(2);
  std::vector<float> values(arm.batch * columns);
  for (float& value : values) value = std::normal_distribution<float>()(random);
  Activations x;
  x.set(values, columns, format, usual_bits(format));
  // A matrix of some thousand rows at a time, as models have them: outputs stay in the cache.
  constexpr std::size_t kRows = 4096;
  std::vector<float> out(kRows * arm.batch);
  const double before = plain_read(data, bytes, team);
  const double took = seconds([&] {
    for (std::size_t row = 0; row < rows; row += kRows) {
      Matrix part = matrix;
      part.data += row * row_bytes;
      part.rows = std::min(kRows, rows - row);
      part.tiled_rows = is_tiled(format) ? part.rows : 0;
      const Product product{part, nullptr, out.data(), kRows};
      multiply(std::span(&product, 1), x, team);
    }
  });
  const double after = plain_read(data, bytes, team);
  arm.bytes.push_back(static_cast<double>(bytes) / took);
  arm.flops.push_back(2.0 * static_cast<double>(rows * columns * arm.batch) / took);
  arm.shares.push_back(arm.bytes.back() / ((before + after) / 2));
}

// Fills the memory with copies of a few rows: one tile after another.
void fill(std::byte* data, std::size_t capacity, MatrixFormat format, std::size_t columns,
          ThreadTeam& team) {
  std::vector<std::byte> rows = some_rows(format, columns);
  Matrix matrix{format, 64, columns, rows.data()};
  tile_in_place(matrix, team);
  const std::size_t copies = capacity / rows.size();
  const std::size_t parts = team.parts(copies, 16);
  team.run(parts, [&](std::size_t part, std::size_t) {
    for (std::size_t i = copies * part / parts; i < copies * (part + 1) / parts; ++i) {
      std::memcpy(data + i * rows.size(), rows.data(), rows.size());
    }
  });
}

void run(const Options& options) {
  ThreadTeam team(options.threads);
  const auto capacity = static_cast<std::size_t>(options.gib * (1u << 30)) / 4096 * 4096;
  std::byte* const data = map(capacity);
  std::vector<Arm> arms;
  for (const Named& format : kFormats) {
    const bool wanted = options.formats.empty() || std::ranges::count(options.formats, format.name);
    if (!wanted) continue;
    for (const std::size_t batch : options.batches) arms.push_back({format, batch, {}, {}, {}});
  }
  std::vector<double> reads;
  for (std::size_t round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < arms.size(); ++i) {
      Arm& arm = arms[i];
      if (i == 0 || arm.format.format != arms[i - 1].format.format) {
        fill(data, capacity, arm.format.format, options.columns, team);
        reads.push_back(plain_read(data, capacity, team));
      }
      measure(arm, data, capacity, options.columns, team);
    }
  }
  std::printf("Products with %s on %zu threads, %zu columns, %.2f GiB of weights.\n",
              instruction_set().name, team.size(), options.columns, options.gib);
  std::printf("Plain read: %.1f (%.1f) GB/s. Medians of %zu rounds (best).\n\n",
              median(reads) / 1e9, std::ranges::max(reads) / 1e9, options.rounds);
  std::printf("%-8s %9s %16s %18s %10s\n", "format", "positions", "GB/s of weights", "GFLOP/s",
              "of read");
  for (const Arm& arm : arms) {
    std::printf("%-8s %9zu %7.1f (%6.1f) %8.0f (%7.0f) %10.2f\n", arm.format.name, arm.batch,
                median(arm.bytes) / 1e9, std::ranges::max(arm.bytes) / 1e9, median(arm.flops) / 1e9,
                std::ranges::max(arm.flops) / 1e9, median(arm.shares));
  }
  if (read_sum == 1) std::fputc('\n', stderr);
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) { berth::run(berth::parse(argc, argv)); }
