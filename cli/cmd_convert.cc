// berth convert: a checkpoint of any format, written as sharded safetensors; a GGUF model, written
// anew with its weights in tiles.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/process/interrupt.h"
#include "cli/process/progress_bar.h"
#include "cli/process/runtime_library.h"
#include "cli/process/terminal.h"
#include "cli/report/table.h"
#include "planner/base/join.h"
#include "planner/base/json_writer.h"
#include "planner/base/output_file.h"
#include "planner/machine/sizes.h"
#include "planner/model/open/companions.h"
#include "planner/model/open/formats.h"

namespace berth {
namespace {

struct Input {
  std::optional<Model> for_cpu;  // then nothing else is given but notes
  Checkpoint checkpoint;
  std::vector<ConvertTensor> tensors;
  std::vector<Companion> companions;
  std::vector<std::string> notes;
};

// A stored tensor that a tied model does not read, because another tensor has the same bytes.
// Safetensors files cannot share bytes, and whoever reads the model ties the two again.
bool is_tied_copy(const Model& model, const std::vector<bool>& used, std::uint32_t index) {
  const std::vector<TensorInfo>& stored = model.checkpoint->tensors;
  if (used[index] || model.tree.ties.empty()) return false;
  const auto shares = [&](std::uint32_t other) {
    return used[other] && stored[other].shard == stored[index].shard &&
           stored[other].begin == stored[index].begin && stored[other].end == stored[index].end &&
           stored[other].form == stored[index].form;
  };
  // Equal ranges stand side by side.
  for (std::uint32_t i = index; i-- > 0 && stored[i].begin == stored[index].begin;) {
    if (shares(i)) return true;
  }
  for (std::uint32_t i = index + 1; i < stored.size() && stored[i].begin == stored[index].begin;
       ++i) {
    if (shares(i)) return true;
  }
  return false;
}

void choose_tensors(Input& input, const Model& model, std::optional<DType> dtype) {
  const std::vector<TensorInfo>& stored = input.checkpoint.tensors;
  std::vector<DType> wanted(stored.size());
  std::vector<bool> used(stored.size(), false);  // by the model's tree
  for (std::uint32_t i = 0; i < stored.size(); ++i) {
    wanted[i] = dtype && is_convertible(stored[i].dtype) ? *dtype : stored[i].dtype;
  }
  for (const ModelTensor& tensor : model.tree.tensors) {
    if (tensor.source >= stored.size()) continue;
    used[tensor.source] = true;
    wanted[tensor.source] = tensor.dtype;
  }
  std::vector<std::string> left_out;
  for (std::uint32_t i = 0; i < stored.size(); ++i) {
    if (is_tied_copy(model, used, i)) {
      left_out.push_back(stored[i].name);
    } else {
      input.tensors.push_back({stored[i].name, i, wanted[i]});
    }
  }
  if (!left_out.empty()) {
    input.notes.push_back(fmt::format(
        "'{}'{} left out: the model ties {}, and the input stores their bytes once", left_out[0],
        left_out.size() > 1 ? fmt::format(" and {} more", left_out.size() - 1) : "",
        left_out.size() > 1 ? "them to others" : "it to another"));
  }
}

bool has_blocks(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                     [](const TensorInfo& tensor) { return is_block_format(tensor.dtype); });
}

// The dtype that holds most bytes.
DType main_dtype(const ModelTree& tree) {
  std::map<DType, std::uint64_t> bytes;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.persistent && !tensor.buffer) bytes[tensor.dtype] += tensor.bytes();
  }
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? DType::kF32 : most->first;
}

// What is converted is the model that a plan would be for: the same files, and of them the same
// tensors. A model that does not fit its config is refused here as there.
Input open_input(const Options& options) {
  std::optional<DType> dtype =
      options.settings.dtype ? options.settings.dtype->dtype : std::nullopt;
  Input input;
  Model model = open_model(options.model, dtype);
  if (options.for_cpu) {
    require_weights(model, options.model, "converted");
    input.notes = model.checkpoint->notes;
    input.for_cpu = std::move(model);
    return input;
  }
  require_weights(model, options.model, "converted");
  if (!model.components.empty()) {
    throw Error(fmt::format(
        "{}: is a pipeline of several models ({}): convert its components one by one, such as {}",
        options.model.string(), fmt::join(model.components, ", "),
        (options.model / model.components.front()).string()));
  }
  const bool whole = whole_format(model.checkpoint->format) != nullptr;
  if (whole && !dtype && has_blocks(*model.checkpoint)) {  // safetensors know no block formats
    dtype = DType::kBF16;
    input.notes.push_back("blocks of quantised values become bfloat16 (--dtype chooses)");
    model = open_model(options.model, dtype);
  }
  input.checkpoint = *model.checkpoint;
  input.notes.insert(input.notes.end(), input.checkpoint.notes.begin(),
                     input.checkpoint.notes.end());
  const std::optional<DType> named = whole && !dtype ? main_dtype(model.tree) : dtype;
  input.companions = companions_of(input.checkpoint, named, input.notes);
  choose_tensors(input, model, dtype);
  return input;
}

// Safetensors files cannot share bytes between tensors. Where so much more is to be written than is
// there, the user should know before the disk is full.
std::string growth_note(const Input& input) {
  std::uint64_t stored = 0;
  std::uint64_t written = 0;
  for (const ConvertTensor& tensor : input.tensors) {
    const TensorInfo& info = input.checkpoint.tensors[tensor.source];
    const std::uint64_t bytes = converted_bytes(info.bytes(), info.dtype, tensor.dtype);
    if (__builtin_add_overflow(stored, info.bytes(), &stored) ||
        __builtin_add_overflow(written, bytes, &written)) {
      throw Error("the size of what is to be written overflows");
    }
  }
  const std::uint64_t held = input.checkpoint.bytes();
  if (stored <= held) return "";
  return fmt::format(
      "note: tensors share bytes, which they cannot in safetensors: {} will be written, {} are "
      "read\n",
      format_size(written), format_size(held));
}

// What became of the tensors, for the report.
std::string changes(const ConvertReport& report) {
  if (report.tiled > 0) return fmt::format(", of which {} are in tiles", report.tiled);
  if (report.converted > 0) return fmt::format(", of which {} got another dtype", report.converted);
  return "";
}

std::string rate(std::uint64_t bytes, double seconds) {
  return seconds > 0 ? fmt::format(" ({:.2f} GB/s)", static_cast<double>(bytes) / seconds / 1e9)
                     : "";
}

std::string report_text(const Options& options, const Input& input, const ConvertReport& report) {
  std::string out = fmt::format("{}   {} in {} file{}\n", options.out->string(),
                                format_size(report.bytes_written), report.files.size(),
                                report.files.size() == 1 ? "" : "s");
  out += fmt::format("tensors     {}{}\n", report.tensors, changes(report));
  out += fmt::format("read        {} in {:.3f} s{}, everything written and on the disk\n",
                     format_size(report.bytes_read), report.seconds,
                     rate(report.bytes_read, report.seconds));
  out += fmt::format("peak        host RAM {} measured, {} planned\n",
                     format_size(report.host_peak_bytes), format_size(report.planned_peak_bytes));
  for (const ConvertedFile& file : report.files) {
    out += fmt::format("file        {}: {} bytes\n", file.name, with_commas(file.bytes));
  }
  if (!input.companions.empty()) {
    out += fmt::format("beside      {}\n", join(input.companions, ", ", &Companion::name));
  }
  for (const std::string& choice : report.io_choices)
    out += fmt::format("io          {}\n", choice);
  for (const std::string& note : input.notes) out += fmt::format("note        {}\n", note);
  return out;
}

std::string report_json(const Options& options, const Input& input, const ConvertReport& report) {
  JsonWriter json;
  json.begin_object();
  json.member("out", options.out->string());
  json.member("tensors", report.tensors);
  json.member("converted", report.converted);
  json.member("tiled", report.tiled);
  json.member("bytes_read", report.bytes_read);
  json.member("bytes_written", report.bytes_written);
  json.member("seconds", report.seconds);
  json.member("host_peak_bytes", report.host_peak_bytes);
  json.member("planned_peak_bytes", report.planned_peak_bytes);
  json.key("files").begin_array();
  for (const ConvertedFile& file : report.files) {
    json.begin_object();
    json.member("name", file.name);
    json.member("bytes", file.bytes);
    json.end_object();
  }
  json.end_array();
  json.key("beside").begin_array();
  for (const Companion& companion : input.companions) json.value(companion.name);
  json.end_array();
  json.key("notes").begin_array();
  for (const std::string& note : input.notes) json.value(note);
  json.end_array();
  json.end_object();
  return json.take();
}

}  // namespace

int cmd_convert(const Options& options) {
  const std::string_view extension = options.for_cpu ? ".gguf" : ".safetensors";
  if (options.out->extension() == extension) {
    throw UsageError(fmt::format("{}: OUT is a folder, which gets model{} or its shards",
                                 options.out->string(), extension));
  }
  const Input input = open_input(options);
  write_stderr(growth_note(input));
  ConvertOptions convert;
  convert.max_shard_bytes = options.max_shard.value_or(convert.max_shard_bytes);
  convert.io = options.settings.io.value_or(convert.io);
  convert.staging = options.settings.staging.value_or(convert.staging);
  const LoaderApi& library = loader_library();
  for (const std::string& sentence : library.clear_leftovers(*options.out)) {
    write_stderr("note: " + sentence + "\n");
  }
  const InterruptGuard interrupt;
  convert.cancel = interrupt.flag();
  ConvertReport report;
  {
    ProgressBar bar("converting");
    convert.on_progress = [&bar](const LoadProgress& progress) { bar.draw(progress); };
    report = interrupt.run([&] {
      if (input.for_cpu) return library.convert_for_cpu(*input.for_cpu, *options.out, convert);
      return library.convert(input.checkpoint, input.tensors, input.companions, *options.out,
                             convert);
    });
  }
  write_stdout(options.json ? report_json(options, input, report)
                            : report_text(options, input, report));
  return kExitDone;
}

}  // namespace berth
