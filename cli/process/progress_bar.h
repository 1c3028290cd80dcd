// A progress bar: one line on stderr that is redrawn in place. It writes nothing where stderr is
// not a terminal.
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
