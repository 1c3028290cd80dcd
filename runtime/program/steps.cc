#include "runtime/program/steps.h"

#include <algorithm>
#include <cmath>

namespace berth {
void EmbedStep::run(Pass& pass) {
  HostBlock block, positions_block;
  const Matrix rows = table.resident(block);
  const Matrix learned = positions ? positions->resident(positions_block) : Matrix{};
  float* const stream = pass.need(Buffer::kStream, rows.columns);
  float* const position = positions ? pass.need(Buffer::kInput, rows.columns, 1) : nullptr;
  for (std::size_t i = 0; i < pass.rows(); ++i) {
    float* const out = stream + i * rows.columns;
    read_row(rows, static_cast<std::size_t>(pass.ids[i]), out);
    if (scale != 1) {
      for (std::size_t c = 0; c < rows.columns; ++c) out[c] *= scale;
    }
    if (!positions) continue;
    read_row(learned, pass.first + i, position);
    for (std::size_t c = 0; c < rows.columns; ++c) out[c] += position[c];
  }
}

void NormWeights::apply(const float* x, float* out) const {
  if (kind == NormKind::kRms) {
    rms_norm(x, weight.data(), weight.size(), epsilon, out);
  } else {
    layer_norm(x, weight.data(), bias.data(), weight.size(), epsilon, out);
  }
}

void NormStep::run(Pass& pass) {
  const float* const x = pass.of(from);
  float* const out = from == to ? pass.of(to) : pass.need(to, norm.width());
  for_rows(pass,
           [&](std::size_t row) { norm.apply(x + row * norm.width(), out + row * norm.width()); });
}

Products::Products(std::vector<ProductPart> parts, bool transposed)
    : parts_(std::move(parts)), transposed_(transposed) {
  products_.reserve(parts_.size());
}

std::size_t Products::columns() const {
  const StoredMatrix& first = parts_.front().weights;
  return transposed_ ? first.rows() : first.columns();
}

// Whether two neighbouring parts are computed in one go. Of the disk tier, no more than one matrix
// is in memory at a time.
bool Products::together(const ProductPart& left, const ProductPart& right) {
  return left.weights.format() == right.weights.format() &&
         left.weights.group() == right.weights.group() && !left.weights.on_disk() &&
         !right.weights.on_disk();
}

void Products::run(Pass& pass, const float* from, std::size_t rows, float* to, std::size_t width) {
  std::optional<MatrixFormat> set_for;
  for (std::size_t next = 0; next < parts_.size();) {
    const ProductPart& first = parts_[next];
    const MatrixFormat format = first.weights.format();
    HostBlock block;
    products_.clear();
    do {
      const ProductPart& part = parts_[next++];
      products_.push_back({part.weights.resident(block),
                           part.bias.empty() ? nullptr : part.bias.data(), to + part.offset,
                           width});
    } while (next < parts_.size() && together(first, parts_[next]));
    if (set_for != format) {
      pass.activations.set(std::span(from, rows * columns()), columns(), format,
                           format == MatrixFormat::kBF16 ? pass.beside_bf16 : pass.bits,
                           &pass.team);
      set_for = format;
    }
    if (!transposed_) {
      multiply(products_, pass.activations, pass.team);
    } else {
      for (const Product& product : products_) {
        multiply_transposed(product, pass.activations, pass.team);
      }
    }
  }
}

void ProductStep::run(Pass& pass) {
  float* const out = pass.need(to, width);
  products.run(pass, pass.of(from), pass.rows(), out, width);
}

void HeadNorms::apply(float* heads, std::size_t count, std::size_t head_dim) const {
  if (norms.empty()) return;
  if (norms.size() == 1 && norms.front().width() == count * head_dim) {
    norms.front().apply(heads, heads);
    return;
  }
  for (std::size_t head = 0; head < count; ++head) {
    float* const own = heads + head * head_dim;
    (norms.size() == 1 ? norms.front() : norms[head]).apply(own, own);
  }
}

// Queries and keys of a position, as they are compared; `row` has its values behind them.
void AttentionStep::prepare(std::size_t position, float* row) const {
  const auto normalize = [&] {
    query_norm.apply(row, heads, head_dim);
    key_norm.apply(row + heads * head_dim, kv_heads, head_dim);
  };
  if (!norm_after_rotation) normalize();
  if (clip > 0) {
    const std::size_t width = (heads + 2 * kv_heads) * head_dim;
    for (std::size_t i = 0; i < width; ++i) row[i] = std::clamp(row[i], -clip, clip);
  }
  if (rotary != nullptr) {
    for (std::size_t head = 0; head < heads + kv_heads; ++head) {
      rotary->turn(position, row + head * head_dim);
    }
    const auto scale = static_cast<float>(rotary->query_scale(position));
    for (std::size_t i = 0; scale != 1 && i < heads * head_dim; ++i) row[i] *= scale;
  }
  if (norm_after_rotation) normalize();
}

std::size_t bytes_of_all(const OfEachSequence<std::vector<std::byte>>& caches) {
  std::size_t bytes = 0;
  for (const std::vector<std::byte>& cache : caches.all()) bytes += cache.size();
  return bytes;
}

void AttentionStep::run(Pass& pass) {
  const std::size_t width = (heads + 2 * kv_heads) * head_dim;
  float* const rows = pass.of(Buffer::kHeads);
  const std::size_t bytes = cache_vector_bytes(format, head_dim);
  const std::size_t position_bytes = kv_heads * bytes;
  std::vector<std::byte>& cache = caches[pass.sequence];
  cache.resize(2 * capacity * position_bytes);
  CacheView view;
  view.format = format;
  view.kv_heads = kv_heads;
  view.key_dim = view.value_dim = head_dim;
  view.capacity = capacity;
  view.keys = cache.data();
  view.values = cache.data() + capacity * position_bytes;
  // A prompt may be longer than what is kept.
  const bool overflows = pass.rows() > 1 && pass.first + pass.rows() > capacity;
  if (overflows) {
    fresh.resize(2 * pass.rows() * position_bytes);
    view.fresh_first = pass.first;
    view.fresh_keys = fresh.data();
    view.fresh_values = fresh.data() + pass.rows() * position_bytes;
  }
  if (rotary != nullptr) rotary->prepare(pass.first, pass.rows(), pass.length);
  for_rows(pass, [&](std::size_t row) {
    const std::size_t position = pass.first + row;
    float* const own = rows + row * width;
    prepare(position, own);
    for (std::size_t head = 0; head < kv_heads; ++head) {
      const float* key = own + (heads + head) * head_dim;
      store_vector(format, std::span(key, head_dim), view.key(position, head));
      store_vector(format, std::span(key + kv_heads * head_dim, head_dim),
                   view.value(position, head));
    }
  });
  settings.sinks = sinks.empty() ? nullptr : sinks.data();
  float* const out = pass.need(Buffer::kAttended, heads * head_dim);
  attend(view, settings, pass.first, pass.rows(), rows, width, out, pass.attention_space,
         pass.team);
  if (!overflows) return;
  const std::size_t kept = std::min(pass.rows(), capacity);
  for (std::size_t row = pass.rows() - kept; row < pass.rows(); ++row) {
    const std::size_t place = (pass.first + row) % capacity * position_bytes;
    std::copy_n(view.fresh_keys + row * position_bytes, position_bytes, view.keys + place);
    std::copy_n(view.fresh_values + row * position_bytes, position_bytes, view.values + place);
  }
}

void GateStep::run(Pass& pass) {
  const float* const wide = pass.of(Buffer::kWide);
  float* const out = pass.need(Buffer::kGated, width);
  const std::size_t stride = gated ? 2 * width : width;
  for_rows(pass, [&](std::size_t row) {
    const float* const x = wide + row * stride;
    activate(activation, x, gated ? x + width : nullptr, width, out + row * width);
  });
}

void AddStep::run(Pass& pass) {
  float* const stream = pass.of(Buffer::kStream);
  const float* const change = pass.of(Buffer::kChange);
  for (std::size_t i = 0; i < pass.rows() * width; ++i) {
    stream[i] += scale * change[i];
  }
}

void LogitsStep::run(Pass& pass) {
  float* const logits = pass.of(Buffer::kLogits);
  for (std::size_t i = 0; i < pass.rows() * width; ++i) {
    logits[i] *= scale;
    if (softcap > 0) logits[i] = softcap * std::tanh(logits[i] / softcap);
  }
}

}  // namespace berth
