#include "cli/report/advice_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/report/plan_json.h"
#include "cli/report/plan_report.h"
#include "cli/report/table.h"
#include "planner/base/join.h"
#include "planner/base/json_writer.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

std::string short_name(const std::string& machine) {
  const std::filesystem::path path(machine);
  const bool file = path.extension() == ".yaml" || path.extension() == ".yml";
  return (file ? path.stem() : path.filename()).string();
}

std::string fits_cell(const AdviceRow& row) {
  if (!row.error.empty()) return "-";
  if (!row.fits) return "no";
  if (row.gpu_bytes == 0) return "no gpu";
  return row.on_gpus() ? "on gpus" : "spilled";
}

std::string spilled_cell(const AdviceRow& row) {
  if (!row.fits || row.spilled.empty()) return "-";
  return join(row.spilled, " + ",
              [](const auto& entry) { return format_gib(entry.second) + " " + entry.first; });
}

std::string million_cell(const AdviceRow& row) {
  const auto million = million_price(row);
  return row.fits && million ? money_text(*million) : "-";
}

std::string price_cell(const Price& price) {
  return money_text(price.an_hour) + (price.currency.empty() ? "" : " " + price.currency);
}

void write_by_device(JsonWriter& json, const char* key,
                     const std::vector<std::pair<std::string, std::uint64_t>>& bytes) {
  json.key(key).begin_object();
  for (const auto& [device, size] : bytes) json.member(device, size);
  json.end_object();
}

void write_texts(JsonWriter& json, const char* key, const std::vector<std::string>& texts) {
  json.key(key).begin_array();
  for (const std::string& text : texts) json.value(text);
  json.end_array();
}

void write_price(JsonWriter& json, const AdviceRow& row) {
  if (!row.price) return;
  json.member("price_per_hour", row.price->an_hour).member("currency", row.price->currency);
  if (const auto million = million_price(row)) {
    json.member("price_per_million_tokens", *million);
  }
}

void write_row(JsonWriter& json, const Advice& advice, const AdviceRow& row) {
  json.begin_object();
  json.member("machine", row.machine).member("dtype", row.precision);
  if (!row.error.empty()) {
    json.member("fits", false).member("error", row.error);
    json.end_object();
    return;
  }
  json.member("fits", row.fits)
      .member("on_gpus", row.on_gpus())
      .member("reaches", advice.reaches(row))
      .member("made_anew", row.made_anew)
      .member("shortfall_bytes", row.missing)
      .member("bytes", row.weight_bytes());
  write_by_device(json, "weights", row.weights);
  write_by_device(json, "spilled", row.spilled);
  json.member("prefill_seconds", row.prefill_seconds)
      .member("seconds_per_token", row.seconds_per_token)
      .member("tokens_per_second", row.tokens_per_second)
      .member("score_seconds", row.score_seconds);
  write_price(json, row);
  write_texts(json, "notes", row.notes);
  json.end_object();
}

}  // namespace

std::string machine_label(const Advice& advice, const AdviceRow& row) {
  const std::string own = short_name(row.machine);
  const bool shared = std::ranges::any_of(advice.rows, [&](const AdviceRow& other) {
    return other.machine != row.machine && short_name(other.machine) == own;
  });
  return shared ? row.machine : own;
}

std::string precision_label(const AdviceRow& row) {
  const std::string name = row.precision == "auto" ? "as stored" : row.precision;
  return row.made_anew ? name + " *" : name;
}

std::string money_text(double amount) {
  if (amount == 0 || amount >= 0.995) return fmt::format("{:.2f}", amount);
  return fmt::format("{:.3g}", amount);
}

std::string price_text(const Price& price) { return price_cell(price) + " an hour"; }

std::string want_text(const Advice& advice) {
  return fmt::format("{:g} tokens/s", advice.want.value_or(0));
}

std::string verdict_text(const Advice& advice, const AdviceRow& row) {
  if (!row.error.empty()) return row.error;
  if (!row.fits) return "does not fit: short by " + format_size(row.missing);
  const std::string by = row.guessed ? " by these estimates" : "";
  if (!advice.want) return "fits" + by;
  if (row.tokens_per_second <= 0) return "speed not known";
  return (advice.reaches(row) ? "reaches " : "below ") + want_text(advice) + by;
}

std::string workload_text(const Workload& workload) {
  return fmt::format("batch {}, context {}, {} prompt and {} new tokens", workload.batch,
                     with_commas(workload.context), with_commas(workload.prompt_tokens),
                     with_commas(workload.new_tokens));
}

std::string best_line(const Advice& advice) {
  const AdviceRow* row = advice.best();
  std::string out;
  if (row == nullptr) {
    const AdviceRow& first = advice.rows[0];
    if (!first.error.empty() || !first.fits) return "none of them fits";
    out = "none reaches " + want_text(advice);
    if (first.tokens_per_second <= 0) return out;
    out += "; the fastest is ";
    row = &first;
  } else {
    out = row->guessed ? "best by these estimates: " : "best: ";
  }
  const std::string precision = row->precision == "auto" ? "as stored" : "in " + row->precision;
  out += machine_label(advice, *row) + " " + precision;
  if (row->tokens_per_second <= 0) return out;
  out += fmt::format(", {} tokens/s, first token in {}", rate_text(row->tokens_per_second),
                     seconds_text(row->prefill_seconds));
  if (!row->price) return out;
  const std::string currency = row->price->currency.empty() ? "" : row->price->currency + " ";
  return out + fmt::format(", {}: {} {}a million generated tokens", price_text(*row->price),
                           money_text(*million_price(*row)), currency);
}

std::string advice_report(const Model& model, const Advice& advice) {
  std::vector<std::string> headers{"MACHINE", "PRECISION",   "WEIGHTS", "FITS",
                                   "SPILLED", "FIRST TOKEN", "TOKENS/S"};
  if (advice.priced) headers.insert(headers.end(), {"PRICE/H", "1M TOKENS"});
  headers.emplace_back("VERDICT");
  Table table(headers);
  bool anew = false;
  for (const AdviceRow& row : advice.rows) {
    anew |= row.made_anew;
    const bool timed = row.fits && row.tokens_per_second > 0;
    std::vector<std::string> cells{
        machine_label(advice, row),
        precision_label(row),
        row.error.empty() ? format_gib(row.weight_bytes()) : "-",
        fits_cell(row),
        spilled_cell(row),
        row.fits && row.prefill_seconds > 0 ? seconds_text(row.prefill_seconds) : "-",
        timed ? rate_text(row.tokens_per_second) : "-"};
    if (advice.priced) {
      cells.push_back(row.price ? price_cell(*row.price) : "-");
      cells.push_back(million_cell(row));
    }
    cells.push_back(verdict_text(advice, row));
    table.add(std::move(cells));
  }
  std::string out = model_line(model) + workload_text(advice.workload) + "; weights in GiB\n\n";
  out += table.text() + "\n" + best_line(advice) + "\n";
  if (anew) {
    out += "* would have to be made anew: stored is " + model.tree.quantization + "\n";
  }
  for (const std::string& note : advice.notes) out += note_line(note);
  return out;
}

std::string advice_json(const Model& model, const Advice& advice) {
  JsonWriter json;
  json.begin_object();
  write_model(json, model.tree);
  write_guesses(json, model.tree);
  json.key("workload").begin_object();
  json.member("batch", advice.workload.batch)
      .member("context", advice.workload.context)
      .member("prompt_tokens", advice.workload.prompt_tokens)
      .member("new_tokens", advice.workload.new_tokens);
  json.end_object();
  json.key("want_tokens_per_second");
  if (advice.want) {
    json.value(*advice.want);
  } else {
    json.null();
  }
  json.key("best");
  if (const AdviceRow* best = advice.best()) {
    json.begin_object();
    json.member("machine", best->machine).member("dtype", best->precision);
    json.end_object();
  } else {
    json.null();
  }
  json.key("rows").begin_array();
  for (const AdviceRow& row : advice.rows) write_row(json, advice, row);
  json.end_array();
  write_texts(json, "notes", advice.notes);
  json.end_object();
  return json.take();
}

}  // namespace berth
