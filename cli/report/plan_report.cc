#include "cli/report/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "cli/report/layer_runs.h"
#include "cli/report/table.h"
#include "planner/base/join.h"
#include "planner/machine/sizes.h"
#include "planner/plan/kv_cache.h"
#include "planner/plan/needs.h"

namespace berth {
namespace {

constexpr std::size_t kWidth = 100;

std::string plural(std::uint64_t count, const std::string& noun) {
  return fmt::format("{} {}{}", with_commas(count), noun, count == 1 ? "" : "s");
}

std::string dtype_text(DType dtype) {
  const std::string_view torch = torch_dtype_name(dtype);
  return std::string(torch.empty() ? dtype_name(dtype) : torch);
}

// The dtypes of the model, those that take the most bytes first: "bfloat16", "int8 + float16".
std::string dtype_summary(const ModelTree& tree, DType ModelTensor::*which) {
  std::array<std::optional<std::uint64_t>, 256> bytes;
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    std::optional<std::uint64_t>& sum = bytes[static_cast<std::uint8_t>(tensor.*which)];
    sum = sum.value_or(0) + tensor.bytes();
  }
  std::vector<std::pair<DType, std::uint64_t>> shares;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i]) shares.emplace_back(static_cast<DType>(i), *bytes[i]);
  }
  std::stable_sort(shares.begin(), shares.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (std::size_t i = 0; i < shares.size() && i < 3; ++i) {
    text += (i > 0 ? " + " : "") + dtype_text(shares[i].first);
  }
  return text + (shares.size() > 3 ? " + ..." : "");
}

// Breaks `text` at spaces; every line after the first starts with `indent` spaces.
std::string wrap_words(const std::string& text, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t space = std::min(text.find(' ', at), text.size());
    const std::size_t length = space - at;
    if (column > indent && column + 1 + length > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += text.substr(at, length);
    column += length;
    at = space + 1;
  }
  return out;
}

std::string run_size(const LayerRun& run) {
  if (run.count == 1) return format_size(run.bytes);
  if (run.least == run.most) return fmt::format("{} x {}", run.count, format_size(run.least));
  return fmt::format("{} in all {}", run.count, format_size(run.bytes));
}

// A line for each run: its device (if the line before has another), its names, how many modules of
// what size it has, and why they are there.
std::string runs_section(const Planned& planned, const std::vector<LayerRun>& runs) {
  std::size_t label_width = 0, name_width = 0, size_width = 0;
  for (const LayerRun& run : runs) {
    label_width = std::max(label_width, device_label(planned.plan.devices[run.device]).size());
    name_width = std::max(name_width, run.name.size());
    size_width = std::max(size_width, run_size(run).size());
  }
  const std::size_t indent = label_width + name_width + size_width + 6;
  std::string out;
  const LayerRun* previous = nullptr;
  for (const LayerRun& run : runs) {
    const bool first = !previous || previous->device != run.device;
    const bool said = !first && previous->reason == run.reason;
    const std::string label = first ? device_label(planned.plan.devices[run.device]) : "";
    std::string line = fmt::format("{:<{}}  {:<{}}  {:>{}}", label, label_width, run.name,
                                   name_width, run_size(run), size_width);
    if (!run.reason.empty() && !said) {
      // If there is no space beside the names, the reason goes under them.
      const bool beside = indent + 24 <= kWidth;
      const std::size_t start = beside ? indent : label_width + 4;
      line += beside ? "  " : "\n" + std::string(start, ' ');
      line += wrap_words(run.reason, start);
    }
    out += line + "\n";
    previous = &run;
  }
  return out;
}

std::string modules_section(const Planned& planned) {
  std::string out;
  for (const ModulePlacement& placed : planned.plan.placement) {
    out += fmt::format("{:<6} {:>12}  {}\n", device_label(planned.plan.devices[placed.device]),
                       format_size(placed.bytes), planned.model.tree.modules[placed.module].name);
  }
  return out;
}

// "within 0.3 % of the best any placement can do", where the policy proves something.
std::string optimality(const Plan& plan) {
  const bool slowest = plan.policy == Policy::kThroughput;
  const std::optional<double> gap =
      plan.guessed ? plan.estimate.guessed_gap : plan.estimate.optimality_gap;
  if (!plan.fits() || !gap) return {};
  const double percent = *gap * 100;
  std::string text = slowest ? "; its slowest stage is " : "; ";
  const std::string by = plan.guessed ? " by these estimates" : "";
  if (percent <= 0) return text + (plan.guessed ? "best" + by : "proven best");
  const std::string figure =
      percent < 0.1 ? "0.1" : fmt::format("{:.{}f}", percent, percent < 10 ? 1 : 0);
  return text + "within " + figure + " % of the best any placement can do" + by;
}

// Where most of a token's time goes: "82.1 of its 91.3 ms on cpu, by memory bandwidth".
std::string binding(const Plan& plan) {
  const Estimate& estimate = plan.estimate;
  const auto most = std::max_element(
      estimate.stages.begin(), estimate.stages.end(),
      [](const Stage& a, const Stage& b) { return a.seconds_per_token < b.seconds_per_token; });
  if (most == estimate.stages.end() || most->seconds_per_token <= 0) return {};
  const std::string where = device_label(plan.devices[most->device]);
  const std::string limit = most->token_limit.empty() ? "" : ", by " + most->token_limit;
  if (estimate.stages.size() == 1) return fmt::format("; a token is limited on {}{}", where, limit);
  return fmt::format("; {:.0f} % of a token is {}{}",
                     100 * most->seconds_per_token / estimate.seconds_per_token, where, limit);
}

std::string estimate_section(const Plan& plan) {
  const Estimate& estimate = plan.estimate;
  if (estimate.score_seconds <= 0) return {};
  std::string text =
      fmt::format("first token {}, then {} a token", seconds_text(estimate.prefill_seconds),
                  seconds_text(estimate.seconds_per_token));
  if (estimate.seconds_per_token > 0) {
    const auto batch = static_cast<double>(plan.workload.batch);
    text += fmt::format(" ({} tokens/s)", rate_text(batch / estimate.seconds_per_token));
  }
  text += fmt::format("; score {} with {} and {}", seconds_text(estimate.score_seconds),
                      plural(plan.workload.prompt_tokens, "prompt token"),
                      plural(plan.workload.new_tokens, "new token"));
  return "estimate    " + wrap_words(text + binding(plan) + optimality(plan), 12) + "\n";
}

// The seconds that the estimate is the sum of, stage by stage.
std::string stages_section(const Plan& plan) {
  const Estimate& estimate = plan.estimate;
  if (estimate.stages.empty()) return {};
  Table table({"STAGE", "FIRST TOKEN", "LIMITED BY", "PER TOKEN", "LIMITED BY"}, kWidth);
  const auto limit = [](const std::string& text) { return text.empty() ? "-" : text; };
  for (const Stage& stage : estimate.stages) {
    table.add({device_label(plan.devices[stage.device]), seconds_text(stage.prefill_seconds),
               limit(stage.prefill_limit), seconds_text(stage.seconds_per_token),
               limit(stage.token_limit)});
  }
  table.add({"hops", seconds_text(estimate.hops_prefill_seconds), "links",
             seconds_text(estimate.hops_seconds_per_token), "links"});
  table.add({"in all", seconds_text(estimate.prefill_seconds), "",
             seconds_text(estimate.seconds_per_token), ""});
  return table.text() + "\n";
}

std::string needs_section(const ModelTree& tree) {
  Table table({"NEEDS", "LARGEST LAYER", "TOTAL", "KV CACHE OF 1,000 TOKENS"}, kWidth);
  for (const Need& need : model_needs(tree)) {
    table.add(
        {std::string(need.dtype), format_size(need.largest_layer), format_size(need.total),
         need.kv_per_1000_tokens == 0
             ? "-"
             : fmt::format("{} in {} bits", format_size(need.kv_per_1000_tokens), need.kv_bits)});
  }
  return table.text() + "\n";
}

std::string load_peak_line(const Plan& plan) {
  return fmt::format("load peak   host RAM {} (the plain way: {})\n",
                     format_size(plan.load_peak.host_bytes),
                     format_size(plan.load_peak.naive_host_bytes));
}

}  // namespace

std::string note_line(const std::string& note) {
  return "note        " + wrap_words(note, 12) + "\n";
}

std::string seconds_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.{}f} s", seconds, seconds < 100 ? 2 : 0);
}

std::string rate_text(double rate) { return fmt::format("{:.{}f}", rate, rate < 1 ? 3 : 1); }

std::string request_line(const Plan& plan, bool with_policy) {
  std::string out;
  if (with_policy) {
    out = plan.policy == Policy::kDeviceMap ? "placed by the given device map"
                                            : "policy " + std::string(policy_name(plan.policy));
    if (!plan.machine.empty()) out += ", ";
  }
  if (!plan.machine.empty()) {
    out += "on " + std::filesystem::path(plan.machine).filename().string();
  }
  out += fmt::format("{}batch {}, context {}", out.empty() ? "" : "; ", plan.workload.batch,
                     with_commas(plan.workload.context));
  if (plan.workload.kv_dtype) out += ", KV cache " + kv_dtype_name(*plan.workload.kv_dtype);
  return wrap_words(out + "; table in GiB", 4) + "\n";
}

std::vector<std::int64_t> ledger_row(const DeviceLedger& device, std::int64_t weights) {
  const std::int64_t capacity = gib_hundredths(device.capacity);
  const std::int64_t over = gib_hundredths(device.over);
  const std::vector<std::int64_t> rest = apportion(
      {device.reserved, device.kv_cache, device.workspace, device.free}, capacity + over - weights);
  return {capacity, rest[0], weights, rest[1], rest[2], device.over > 0 ? -over : rest[3]};
}

std::vector<std::int64_t> weights_column(const Plan& plan) {
  std::vector<std::uint64_t> weights;
  std::uint64_t total = 0;
  for (const DeviceLedger& device : plan.devices) {
    weights.push_back(device.weights);
    total += device.weights;
  }
  return apportion(weights, gib_hundredths(total));
}

std::uint64_t layer_count(const ModelTree& tree) { return tree.decoder_layers(); }

bool nothing_on_gpu(const Plan& plan) {
  return std::none_of(plan.devices.begin(), plan.devices.end(), [](const DeviceLedger& device) {
    return is_gpu(device.kind) && device.weights > 0;
  });
}

std::string model_line(const Model& model) {
  const ModelTree& tree = model.tree;
  std::vector<std::string> facts;
  if (!tree.model_type.empty()) facts.push_back(tree.model_type);
  if (layer_count(tree) > 0) facts.push_back(plural(layer_count(tree), "layer"));
  std::string dtype = dtype_summary(tree, &ModelTensor::dtype);
  const std::string stored = dtype_summary(tree, &ModelTensor::stored);
  const bool quantized = !tree.quantization.empty();
  if (stored != dtype) dtype += quantized ? ", stored as " + stored : " (stored as " + stored + ")";
  if (tree.quantized != nullptr) {
    dtype = dtype_summary(tree, &ModelTensor::dtype) + ", dequantised from " +
            (quantized ? tree.quantization : stored);
  } else if (quantized) {
    dtype = tree.quantization + " (" + dtype + ")";
  }
  if (!dtype.empty()) facts.push_back(dtype);
  facts.push_back(plural(tree.parameters(), "parameter"));
  std::string size = format_size(tree.bytes());
  if (model.checkpoint) size += " in " + plural(model.checkpoint->shards.size(), "shard");
  facts.push_back(size);
  return tree.name + "   " + join(facts, ", ") + "\n";
}

std::string device_table(const Planned& planned) {
  const Plan& plan = planned.plan;
  std::vector<std::vector<std::string>> layers(plan.devices.size());
  std::set<std::pair<std::uint32_t, std::string>> named;
  for (const LayerRun& run : layer_runs(planned.model.tree, plan)) {
    if (!named.emplace(run.device, run.short_name).second) continue;
    layers[run.device].push_back(run.short_name);
  }
  Table table({"DEVICE", "CAPACITY", "RESERVED", "WEIGHTS", "KV", "WORKSPACE", "FREE", "LAYERS"},
              kWidth);
  const std::vector<std::int64_t> weights = weights_column(plan);
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    const DeviceLedger& device = plan.devices[i];
    std::vector<std::string> cells{device_label(device)};
    for (const std::int64_t number : ledger_row(device, weights[i])) {
      cells.push_back(format_hundredths(number));
    }
    if (device.capacity >= kShownAsUnlimited) cells[1] = cells[6] = "-";
    cells.push_back(layers[i].empty() ? "-" : join(layers[i], ", "));
    table.add(std::move(cells));
  }
  return table.text();
}

std::string after_load_line(const Plan& plan) {
  std::vector<std::string> items;
  const std::vector<std::int64_t> weights = weights_column(plan);
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    items.push_back(device_label(plan.devices[i]) + " " + format_hundredths(weights[i]));
  }
  std::string out = "after load  " + wrap_words(join(items, ", ") + " GiB", 12) + "\n";
  if (nothing_on_gpu(plan)) {
    out += "            nothing is on a GPU: a low load peak does not put a model on one\n";
  }
  return out;
}

std::string device_spread(const Plan& plan) {
  std::uint64_t total = 0;
  for (const DeviceLedger& device : plan.devices) total += device.weights;
  std::vector<std::string> shares;
  for (const DeviceLedger& device : plan.devices) {
    if (device.weights == 0) continue;
    shares.push_back(fmt::format(
        "{:.0f} % {}", 100 * static_cast<double>(device.weights) / static_cast<double>(total),
        device_label(device)));
  }
  return "weights     " + join(shares, ", ") + "\n";
}

std::string verdict(const Planned& planned, bool colour) {
  const Plan& plan = planned.plan;
  const auto paint = [&](const char* code, const std::string& text) {
    return colour ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : text;
  };
  // Of a pipeline nobody knows how much the images take.
  const bool weights_alone = !planned.model.components.empty();
  if (plan.fits()) return paint("32", weights_alone ? "the weights fit" : fits_words(plan)) + "\n";
  std::string out = paint("31", shortfall_sentence(plan)) + "\n";
  const std::string& cause = plan.shortfall->cause;
  if (!cause.empty()) out += "  why: " + wrap_words(cause, 7) + "\n";
  for (const std::string& suggestion : plan.shortfall->suggestions) {
    out += "  try: " + wrap_words(suggestion, 7) + "\n";
  }
  return out;
}

std::string plan_report(const Planned& planned, const ReportStyle& style) {
  const Plan& plan = planned.plan;
  std::string out = model_line(planned.model);
  out += request_line(plan) + "\n";
  out += device_table(planned) + "\n";
  out += runs_section(planned, layer_runs(planned.model.tree, plan));
  if (style.verbose) out += "\n" + modules_section(planned);
  out += "\n" + needs_section(planned.model.tree);
  if (style.verbose) out += stages_section(plan);
  out += load_peak_line(plan) + after_load_line(plan) + estimate_section(plan);
  for (const std::string& note : plan.notes) out += note_line(note);
  return out + verdict(planned, style.colour);
}

}  // namespace berth
