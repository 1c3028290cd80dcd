// One line on stderr, redrawn in place; nothing at all where stderr is no terminal.
#pragma once

#include <string>

#include "berth/load.h"

namespace berth {

class ProgressBar {
 public:
  explicit ProgressBar(std::string doing);  // "loading"
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void draw(const LoadProgress& progress);

 private:
  std::string doing_;
  bool active_;
  bool colour_;
  bool drawn_ = false;
};

}  // namespace berth
