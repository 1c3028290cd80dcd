#include "runtime/program/pass.h"

namespace berth {

void Pass::show_all() {
  ids = all_ids_;
  begin_ = first = sequence = length = 0;
}

void Pass::show(const SequenceRows& rows) {
  ids = all_ids_.subspan(rows.row, rows.rows);
  begin_ = rows.row;
  first = rows.position;
  sequence = rows.sequence;
  length = rows.length;
}

float* Pass::need(Buffer buffer, std::size_t width) {
  return need(buffer, width, all_ids_.size()) + begin_ * width;
}

float* Pass::need(Buffer buffer, std::size_t width, std::size_t rows) {
  Rows& memory = buffers_[static_cast<std::size_t>(buffer)];
  memory.width = width;
  if (memory.values.size() < width * rows) memory.values.resize(width * rows);
  return memory.values.data();
}

float* Pass::of(Buffer buffer) {
  Rows& memory = buffers_[static_cast<std::size_t>(buffer)];
  return memory.values.data() + begin_ * memory.width;
}

}  // namespace berth
