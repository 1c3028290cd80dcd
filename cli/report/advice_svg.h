// plan --across as a picture: a bar of tokens a second for each machine and precision.
#pragma once

#include <string>

#include "berth/model.h"
#include "cli/report/advice.h"

namespace berth {

// Returns an SVG document with the ranked rows from top to bottom. A bar's length is the rate, all
// to one scale from 0; its colour says whether all weights are on GPUs or some are spilled. A
// dashed line stands at the rate that is wanted. Rows that do not fit have a sentence in place of a
// bar.
std::string advice_svg(const Model& model, const Advice& advice);

}  // namespace berth
