// plan --across as text for people, and as JSON.
#pragma once

#include <string>

#include "berth/model.h"
#include "cli/report/advice.h"

namespace berth {

// A table of the ranked rows, the best first, sizes in GiB; a line that names the best; notes.
// `model` is the one that is stored.
std::string advice_report(const Model& model, const Advice& advice);

// The whole document, with the keys that docs/guide.md promises.
std::string advice_json(const Model& model, const Advice& advice);

// Shared with the picture.
// The machine without folder and ending, where that still tells it from the others.
std::string machine_label(const Advice& advice, const AdviceRow& row);
std::string precision_label(const AdviceRow& row);  // "bfloat16", "as stored", "q4_k_m *"
std::string money_text(double amount);              // "16.79", "0.0421"
std::string price_text(const Price& price);         // "2.49 USD an hour"
// "20 tokens/s".
std::string want_text(const Advice& advice);
// Why a row is where it is: "fits", "below 20 tokens/s", "short by 1.20 GiB", or the error.
std::string verdict_text(const Advice& advice, const AdviceRow& row);
// "batch 1, context 4,096, 512 prompt and 128 new tokens".
std::string workload_text(const Workload& workload);
std::string best_line(const Advice& advice);  // without a line's end

}  // namespace berth
