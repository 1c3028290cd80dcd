#include "cli/report/plan_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "berth/error.h"
#include "berth/planner.h"
#include "cli/options/values.h"
#include "cli/report/plan_json.h"
#include "planner/base/input_file.h"
#include "planner/base/json_value.h"
#include "planner/base/json_writer.h"
#include "planner/base/position.h"

namespace berth {
namespace {

using simdjson::dom::element;

constexpr std::uint64_t kMostBytes = 1u << 30;  // of the file

// Members of one JSON object, with errors that name file and member.
class Reader {
 public:
  explicit Reader(JsonValue value) : value_(std::move(value)) {
    if (!value_.is_object()) fail("is not an object");
  }

  template <typename T>
  T get(std::string_view key, const char* kind) const {
    if (const auto value = value_.find<T>(key)) return *value;
    fail_at(value_.path(key), fmt::format("is missing or not {}", kind));
  }
  std::string text(std::string_view key) const {
    return std::string(get<std::string_view>(key, "text"));
  }
  std::uint64_t size(std::string_view key) const {
    return get<std::uint64_t>(key, "a whole number");
  }
  double number(std::string_view key) const { return get<double>(key, "a number"); }
  bool boolean(std::string_view key) const { return get<bool>(key, "true or false"); }
  // The items of a list of objects.
  std::vector<Reader> list(std::string_view key) const {
    std::vector<Reader> items;
    const std::string field = value_.path(key);
    for (const element item : get<simdjson::dom::array>(key, "a list")) {
      items.emplace_back(
          JsonValue(item, value_.file(), fmt::format("{}[{}]", field, items.size())));
    }
    return items;
  }
  Reader object(std::string_view key) const {
    return Reader(JsonValue(get<element>(key, "an object"), value_.file(), value_.path(key)));
  }
  bool has(std::string_view key) const { return value_.has(key); }
  bool is_null(std::string_view key) const { return has(key) && item(key).is_null(); }
  element item(std::string_view key) const { return get<element>(key, "here"); }

  // Parses a text member. If `parse` throws, the error names the member.
  template <typename Parse>
  auto parsed(std::string_view key, Parse parse) const {
    const std::string value = text(key);
    return with_position(value_.file() + ": " + value_.path(key), [&] { return parse(value); });
  }

  [[noreturn]] void fail(const std::string& message) const { fail_at(value_.field(), message); }

 private:
  [[noreturn]] void fail_at(const std::string& field, const std::string& message) const {
    throw Error(fmt::format("{}: {}{}{}: not a plan that berth made", value_.file(), field,
                            field.empty() ? "the file " : " ", message));
  }

  JsonValue value_;
};

DeviceLedger read_device(const Reader& reader) {
  DeviceLedger device;
  device.name = reader.parsed("name", [](const std::string& text) { return device_from(text); });
  const std::string kind = reader.text("kind");
  for (const DeviceKind candidate :
       {DeviceKind::kCuda, DeviceKind::kOther, DeviceKind::kCpu, DeviceKind::kDisk}) {
    if (device_kind_name(candidate) == kind) device.kind = candidate;
  }
  if (device_kind_name(device.kind) != kind) reader.fail("has an unknown kind");
  device.capacity = reader.size("capacity");
  device.reserved = reader.size("reserved");
  device.weights = reader.size("weights");
  device.kv_cache = reader.size("kv_cache");
  device.workspace = reader.size("workspace");
  const std::int64_t free = reader.get<std::int64_t>("free", "a whole number");
  if (free >= 0) {
    device.free = static_cast<std::uint64_t>(free);
  } else {
    device.over = 0 - static_cast<std::uint64_t>(free);
  }
  return device;
}

void read_request(const Reader& reader, PlanFile& file) {
  Plan& plan = file.plan;
  plan.machine = reader.text("machine");
  const DTypeChoice dtype = reader.parsed("dtype", planned_dtype_from);
  if (dtype.made_anew != nullptr) {
    throw Error(
        fmt::format("{}: was planned for weights in {}, which Berth does not make: plan "
                    "the checkpoint that has them, and follow that plan",
                    file.source, dtype.made_anew->name));
  }
  file.dtype = dtype.dtype;
  file.dequantize = reader.boolean("dequantize");
  file.mtp = reader.has("mtp") && reader.boolean("mtp");
  file.tensors = reader.size("tensors");
  plan.cpu_memory = reader.parsed("cpu_memory", cpu_memory_from);
  plan.staging = reader.size("staging");
  plan.workload.batch = reader.size("batch");
  plan.workload.context = reader.size("context");
  plan.workload.prompt_tokens = reader.size("prompt_tokens");
  plan.workload.new_tokens = reader.size("new_tokens");
  if (!reader.item("kv_dtype").is_null()) {
    plan.workload.kv_dtype = reader.parsed("kv_dtype", kv_dtype_from);
  }
}

DeviceMap read_map(const Reader& reader, const std::string& key) {
  DeviceMap map;
  for (const auto [module, device] : reader.get<simdjson::dom::object>(key, "an object")) {
    std::uint64_t ordinal = 0;
    std::string_view name;
    if (device.get(ordinal) == simdjson::SUCCESS) {
      map.push_back({std::string(module), std::to_string(ordinal)});
    } else if (device.get(name) == simdjson::SUCCESS) {
      map.push_back({std::string(module), std::string(name)});
    } else {
      reader.fail("has a " + key + " whose devices are not numbers or text");
    }
  }
  return map;
}

Estimate read_estimate(const Reader& reader, const Plan& plan) {
  Estimate estimate;
  estimate.prefill_seconds = reader.number("prefill_seconds");
  estimate.seconds_per_token = reader.number("seconds_per_token");
  estimate.score_seconds = reader.number("score_seconds");
  if (!reader.is_null("optimality_gap")) {
    estimate.optimality_gap = reader.number("optimality_gap");
  }
  if (reader.has("guessed_gap")) estimate.guessed_gap = reader.number("guessed_gap");
  for (const Reader& member : reader.list("stages")) {
    Stage stage;
    const std::string name = member.text("device");
    while (stage.device < plan.devices.size() && plan.devices[stage.device].name != name) {
      ++stage.device;
    }
    if (stage.device == plan.devices.size()) member.fail("names a device that is not in devices");
    stage.prefill_seconds = member.number("prefill_seconds");
    stage.seconds_per_token = member.number("seconds_per_token");
    stage.prefill_limit = member.text("prefill_limit");
    stage.token_limit = member.text("token_limit");
    estimate.stages.push_back(std::move(stage));
  }
  const Reader hops = reader.object("hops");
  estimate.hops_prefill_seconds = hops.number("prefill_seconds");
  estimate.hops_seconds_per_token = hops.number("seconds_per_token");
  return estimate;
}

std::uint32_t device_named(const Reader& reader, const Plan& plan, std::string_view key) {
  const std::string name = reader.text(key);
  for (std::uint32_t d = 0; d < plan.devices.size(); ++d) {
    if (plan.devices[d].name == name) return d;
  }
  reader.fail(fmt::format("{} names a device that is not in devices", key));
}

void read_streaming(const Reader& reader, Plan& plan) {
  plan.streamer = device_named(reader, plan, "device");
  plan.stream_buffer_bytes = reader.size("slot_bytes");
}

// A plan of another version may mean something else by the same words, so it is not followed.
void require_version(const Reader& root, const std::string& source) {
  if (!root.has("plan_version")) {
    throw Error(
        fmt::format("{}: has no plan_version: it was saved by a Berth from before plans had "
                    "versions, or is not "
                    "a plan: save it again with `berth plan --save`",
                    source));
  }
  const std::uint64_t version = root.size("plan_version");
  if (version == kPlanVersion) return;
  throw Error(
      fmt::format("{}: was saved as plan version {}; this Berth reads version {}: save it again "
                  "with `berth plan --save`",
                  source, version, kPlanVersion));
}

void read_body(const Reader& root, PlanFile& file) {
  const Reader model = root.object("model");
  file.model_name = model.text("name");
  file.parameters = model.size("parameters");
  file.bytes = model.size("bytes");
  const std::string policy = root.text("policy");
  file.plan.policy = policy == policy_name(Policy::kDeviceMap) ? Policy::kDeviceMap
                                                               : root.parsed("policy", policy_from);
  for (const Reader& device : root.list("devices")) {
    file.plan.devices.push_back(read_device(device));
  }
  file.plan.device_map = read_map(root, "device_map");
  if (root.has("node_map")) file.plan.node_map = read_map(root, "node_map");
  for (const Reader& placed : root.list("placement")) {
    file.modules.push_back(placed.text("module"));
    file.reasons.push_back(placed.text("reason"));
  }
  const Reader peak = root.object("load_peak");
  file.plan.load_peak = {peak.size("host_bytes"), peak.size("naive_host_bytes")};
  file.plan.estimate = read_estimate(root.object("estimate"), file.plan);
  if (root.has("streaming")) read_streaming(root.object("streaming"), file.plan);
  if (root.has("disk_runner")) {
    file.plan.disk_runner = device_named(root, file.plan, "disk_runner");
  }
  if (!root.boolean("fits")) {
    file.plan.shortfall.emplace();
    const Reader shortfall = root.object("shortfall");
    file.plan.shortfall->bytes = shortfall.size("bytes");
    file.plan.shortfall->cause = shortfall.text("cause");
  }
  read_request(root.object("request"), file);
}

void require_same(const PlanFile& file, const char* what, const std::string& planned,
                  const std::string& here) {
  if (planned == here) return;
  throw Error(fmt::format("{}: a plan for another model: {} was {}, here it is {}; plan again",
                          file.source, what, planned, here));
}

// `name` as a plan file has it: JSON has no bytes that are not UTF-8, and names of folders may.
std::string as_written(const std::string& name) {
  const JsonDocument document(json_quote(name), "a name");
  return std::string(document.root().text());
}

// The machine that the ledger describes, with all that is needed to price the device map on it.
Machine machine_of(const Plan& plan) {
  Machine machine;
  machine.source = plan.machine;
  for (const DeviceLedger& ledger : plan.devices) {
    Device device;
    device.name = ledger.name;
    device.kind = ledger.kind;
    device.capacity = device.total = ledger.capacity;
    machine.devices.push_back(std::move(device));
  }
  fill_defaults(machine);
  return machine;
}

// Keeps the ledger of the file if its weights agree with the model's, and refuses it if they do
// not.
void take_ledger(const PlanFile& file, Plan& plan) {
  if (plan.devices.size() != file.plan.devices.size()) {
    throw Error(fmt::format("{}: devices: a plan for other hardware; plan again", file.source));
  }
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    if (plan.devices[i].name != file.plan.devices[i].name ||
        plan.devices[i].weights != file.plan.devices[i].weights) {
      throw Error(fmt::format(
          "{}: devices[{}].weights: {} bytes by the plan, {} by its device_map and this model; "
          "the file was edited, or made for another model",
          file.source, i, file.plan.devices[i].weights, plan.devices[i].weights));
    }
  }
  plan.devices = file.plan.devices;
}

}  // namespace

PlanFile parse_plan_file(std::string_view json, const std::string& source) {
  const JsonDocument document(json, source);
  PlanFile file;
  file.source = source;
  const Reader root(document.root());
  require_version(root, source);
  read_body(root, file);
  return file;
}

PlanFile read_plan_file(const std::filesystem::path& file) {
  return parse_plan_file(read_text_file(file, kMostBytes), file.string());
}

Plan adopt_plan(const PlanFile& file, const ModelTree& tree, const Settings& settings) {
  require_same(file, "the name", file.model_name, as_written(tree.name));
  require_same(file, "the number of parameters", std::to_string(file.parameters),
               std::to_string(tree.parameters()));
  require_same(file, "the number of tensors", std::to_string(file.tensors),
               std::to_string(tree.tensors.size()));
  require_same(file, "the size in bytes", std::to_string(file.bytes), std::to_string(tree.bytes()));

  Request request;
  request.policy = Policy::kDeviceMap;
  // Where host RAM is several NUMA nodes, only the latter says what stands on which.
  request.device_map = file.plan.node_map.empty() ? file.plan.device_map : file.plan.node_map;
  request.workload = file.plan.workload;
  request.cpu_memory = settings.cpu_memory.value_or(file.plan.cpu_memory);
  request.staging = settings.staging.value_or(file.plan.staging);
  Plan plan = make_plan(tree, machine_of(file.plan), request);

  take_ledger(file, plan);
  plan.policy = file.plan.policy;
  plan.estimate = file.plan.estimate;
  plan.streamer = file.plan.streamer;
  plan.stream_buffer_bytes = file.plan.stream_buffer_bytes;
  plan.disk_runner = file.plan.disk_runner;
  plan.shortfall = file.plan.shortfall;
  std::map<std::string, std::string, std::less<>> reasons;
  for (std::size_t i = 0; i < file.modules.size(); ++i) reasons[file.modules[i]] = file.reasons[i];
  for (ModulePlacement& placed : plan.placement) {
    const auto reason = reasons.find(tree.modules[placed.module].name);
    if (reason != reasons.end()) placed.reason = reason->second;
  }
  return plan;
}

}  // namespace berth
