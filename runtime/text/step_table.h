// One stage of a tokenizer.json as a table: a row for each type of step that Berth has, with what
// makes it. The message about a type that it does not have lists those of the rows.
#pragma once

#include <cstddef>
#include <string_view>

#include "planner/base/join.h"
#include "planner/base/json_value.h"
#include "planner/base/quote.h"

namespace berth {

template <typename Step>
struct StepRow {
  std::string_view type;
  // Throws Error where a setting of the step is not supported.
  Step (*make)(const JsonValue& step);
};

// Makes `step` by the row of its type. Throws Error where no row has it.
template <typename Step, std::size_t rows>
Step make_step(const StepRow<Step> (&table)[rows], const JsonValue& step) {
  const std::string_view type = step.type();
  for (const StepRow<Step>& row : table) {
    if (row.type == type) return row.make(step);
  }
  step.fail("type " + quote(type) + " is not supported (" +
            join_in_words(table, "and", &StepRow<Step>::type) + " are)");
}

}  // namespace berth
