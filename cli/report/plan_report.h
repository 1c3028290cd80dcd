// A plan as text for people: the model, a table of devices whose rows add up as printed, runs of
// layers with the reason why each is where it is, load peak and after load, and the verdict.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/report/planned.h"

namespace berth {

struct ReportStyle {
  bool verbose = false;  // list every module
  bool colour = false;   // of the verdict
};

// The whole report, at most 100 columns wide where names allow. Ends in a newline.
std::string plan_report(const Planned& planned, const ReportStyle& style);

// Its parts, shared with the reports of load and run; each ends in a newline.
std::string model_line(const Model& model);        // name, type, layers, dtype, parameters, bytes
std::string device_table(const Planned& planned);  // DEVICE CAPACITY ... LAYERS
std::string after_load_line(const Plan& plan);     // weights by device
std::string device_spread(const Plan& plan);       // share of the weights by device
std::string verdict(const Planned& planned, bool colour);

// The policy, the machine and the workload that were asked for. Ends in a newline.
std::string request_line(const Plan& plan, bool with_policy = true);

// Weights by device in hundredths of a GiB, rounded so that they add up to the total as printed.
std::vector<std::int64_t> weights_column(const Plan& plan);

// One row of the device table in hundredths of a GiB: capacity, reserved, weights, KV cache,
// workspace, free (negative if something is missing). It adds up as printed. `weights` is rounded
// already (weights_column()).
std::vector<std::int64_t> ledger_row(const DeviceLedger& device, std::int64_t weights);

std::string note_line(const std::string& note);  // "note        ...", wrapped

std::string seconds_text(double seconds);  // "1.24 s", "91.3 ms"
std::string rate_text(double rate);        // "11.0"

// The number of decoder blocks; 0 if it is unknown.
std::uint64_t layer_count(const ModelTree& tree);

// True if there are no weights on any GPU.
bool nothing_on_gpu(const Plan& plan);

}  // namespace berth
