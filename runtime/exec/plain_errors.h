// Errors of libtorch as Berth's own. This header does not include torch.
#pragma once

#include <functional>

namespace berth {

// Calls `compute`. An exception of libtorch becomes an Error of one line: its text
// goes on with a stack of some kilobytes, which helps nobody who runs a model.
void with_plain_errors(const std::function<void()>& compute);

}  // namespace berth
