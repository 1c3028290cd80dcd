#include "cli/report/plan_json.h"

#include "cli/report/plan_report.h"
#include "planner/plan/kv_cache.h"
#include "planner/plan/map_notes.h"
#include "planner/plan/needs.h"

namespace berth {

void write_model(JsonWriter& json, const ModelTree& tree) {
  json.key("model").begin_object();
  json.member("name", tree.name)
      .member("type", tree.model_type)
      .member("parameters", tree.parameters())
      .member("bytes", tree.bytes())
      .member("layers", layer_count(tree));
  json.end_object();
}

void write_guesses(JsonWriter& json, const ModelTree& tree) {
  if (tree.guesses.empty()) return;
  json.key("guessed").begin_array();
  for (const std::string& guess : tree.guesses) json.value(guess);
  json.end_array();
}

namespace {

void write_devices(JsonWriter& json, const Plan& plan) {
  json.key("devices").begin_array();
  for (const DeviceLedger& device : plan.devices) {
    json.begin_object();
    json.member("name", device.name)
        .member("kind", device_kind_name(device.kind))
        .member("capacity", device.capacity)
        .member("reserved", device.reserved)
        .member("weights", device.weights)
        .member("kv_cache", device.kv_cache)
        .member("workspace", device.workspace)
        .key("free");
    // Negative where the device does not fit, so that the members always add up to the capacity.
    if (device.over > 0) {
      json.value(-static_cast<std::int64_t>(device.over));
    } else {
      json.value(device.free);
    }
    json.end_object();
  }
  json.end_array();
}

void write_map(JsonWriter& json, const char* key, const DeviceMap& map) {
  json.key(key).begin_object();
  for (const DeviceMapEntry& entry : map) json.key(entry.module).device(entry.device);
  json.end_object();
}

void write_placement(JsonWriter& json, const Planned& planned) {
  write_map(json, "device_map", planned.plan.device_map);
  if (!planned.plan.node_map.empty()) write_map(json, "node_map", planned.plan.node_map);
  json.key("placement").begin_array();
  for (const ModulePlacement& placed : planned.plan.placement) {
    json.begin_object();
    json.member("module", planned.model.tree.modules[placed.module].name)
        .member("device", planned.plan.devices[placed.device].name)
        .member("bytes", placed.bytes)
        .member("reason", placed.reason);
    json.end_object();
  }
  json.end_array();
}

void write_stages(JsonWriter& json, const Plan& plan) {
  json.key("stages").begin_array();
  for (const Stage& stage : plan.estimate.stages) {
    json.begin_object();
    json.member("device", plan.devices[stage.device].name)
        .member("prefill_seconds", stage.prefill_seconds)
        .member("seconds_per_token", stage.seconds_per_token)
        .member("prefill_limit", stage.prefill_limit)
        .member("token_limit", stage.token_limit);
    json.end_object();
  }
  json.end_array();
  json.key("hops").begin_object();
  json.member("prefill_seconds", plan.estimate.hops_prefill_seconds)
      .member("seconds_per_token", plan.estimate.hops_seconds_per_token);
  json.end_object();
}

void write_needs(JsonWriter& json, const ModelTree& tree) {
  json.key("needs").begin_array();
  for (const Need& need : model_needs(tree)) {
    json.begin_object();
    json.member("dtype", need.dtype)
        .member("largest_layer", need.largest_layer)
        .member("total", need.total)
        .member("kv_cache_per_1000_tokens", need.kv_per_1000_tokens);
    json.end_object();
  }
  json.end_array();
}

void write_figures(JsonWriter& json, const Plan& plan) {
  json.key("load_peak").begin_object();
  json.member("host_bytes", plan.load_peak.host_bytes)
      .member("naive_host_bytes", plan.load_peak.naive_host_bytes);
  json.end_object();
  json.key("estimate").begin_object();
  json.member("prefill_seconds", plan.estimate.prefill_seconds)
      .member("seconds_per_token", plan.estimate.seconds_per_token)
      .member("score_seconds", plan.estimate.score_seconds);
  json.key("optimality_gap");
  if (plan.estimate.optimality_gap) {
    json.value(*plan.estimate.optimality_gap);
  } else {
    json.null();
  }
  if (plan.estimate.guessed_gap) json.member("guessed_gap", *plan.estimate.guessed_gap);
  write_stages(json, plan);
  json.end_object();
  if (plan.streamer != kNone) {
    json.key("streaming").begin_object();
    json.member("device", plan.devices[plan.streamer].name)
        .member("slot_bytes", plan.stream_buffer_bytes);
    json.end_object();
  }
  if (plan.disk_runner != kNone) {
    json.member("disk_runner", plan.devices[plan.disk_runner].name);
  }
  if (!plan.shortfall) return;
  json.key("shortfall").begin_object();
  json.member("bytes", plan.shortfall->bytes).member("cause", plan.shortfall->cause);
  json.key("suggestions").begin_array();
  for (const std::string& suggestion : plan.shortfall->suggestions) json.value(suggestion);
  json.end_array().end_object();
}

// The dtype that all convertible tensors have in memory, or "auto" if some are kept as stored.
std::string_view dtype_asked_for(const ModelTree& tree) {
  std::optional<DType> common;
  bool converted = false;
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.persistent || !is_convertible(tensor.dtype)) continue;
    if (common && *common != tensor.dtype) return "auto";
    common = tensor.dtype;
    converted |= tensor.dtype != tensor.stored;
  }
  return converted ? torch_dtype_name(*common) : "auto";
}

// What the plan was made for: enough to follow it later, and to refuse it for another model.
void write_request(JsonWriter& json, const Planned& planned) {
  const Plan& plan = planned.plan;
  json.key("request").begin_object();
  json.member("machine", plan.machine)
      .member("dtype", planned.made_anew.empty() ? dtype_asked_for(planned.model.tree)
                                                 : std::string_view(planned.made_anew))
      .member("dequantize", planned.model.tree.quantized != nullptr);
  if (planned.model.tree.predicts) json.member("mtp", true);
  json.member("tensors", planned.model.tree.tensors.size())
      .member("cpu_memory", cpu_memory_name(plan.cpu_memory))
      .member("staging", plan.staging)
      .member("batch", plan.workload.batch)
      .member("context", plan.workload.context)
      .member("prompt_tokens", plan.workload.prompt_tokens)
      .member("new_tokens", plan.workload.new_tokens)
      .key("kv_dtype");
  if (plan.workload.kv_dtype) {
    json.value(kv_dtype_name(*plan.workload.kv_dtype));
  } else {
    json.null();
  }
  json.end_object();
}

}  // namespace

void write_plan(JsonWriter& json, const Planned& planned) {
  json.member("plan_version", kPlanVersion);
  write_model(json, planned.model.tree);
  json.member("fits", planned.plan.fits());
  write_guesses(json, planned.model.tree);
  json.member("policy", policy_name(planned.plan.policy));
  write_devices(json, planned.plan);
  write_placement(json, planned);
  write_figures(json, planned.plan);
  write_needs(json, planned.model.tree);
  json.key("notes").begin_array();
  for (const std::string& note : planned.plan.notes) json.value(note);
  if (planned.plan.policy != Policy::kDeviceMap) {  // else they are among the plan's
    for (const std::string& note : device_map_notes(planned.model.tree, planned.plan)) {
      json.value(note);
    }
  }
  json.end_array();
  write_request(json, planned);
}

std::string plan_json(const Planned& planned, const std::vector<ComparedPlan>& rows) {
  JsonWriter json;
  json.begin_object();
  write_plan(json, planned);
  if (!rows.empty()) write_policies(json, rows);
  json.end_object();
  return json.take();
}

}  // namespace berth
