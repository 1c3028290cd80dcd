#include "cli/options/settings.h"

namespace berth {
namespace {

template <typename T>
void prefer(std::optional<T>& flag, const std::optional<T>& file) {
  if (!flag) flag = file;
}

}  // namespace

Settings merge(Settings flags, const Settings& file) {
  Settings from_file = file;
  if (flags.policy) from_file.device_map.reset();
  if (flags.device_map) from_file.policy.reset();
  if (flags.prompt) from_file.prompt_ids.reset();
  if (flags.prompt_ids) from_file.prompt.reset();

  prefer(flags.policy, from_file.policy);
  prefer(flags.machine, from_file.machine);
  prefer(flags.max_memory, from_file.max_memory);
  prefer(flags.device_map, from_file.device_map);
  prefer(flags.dtype, from_file.dtype);
  prefer(flags.dequantize, from_file.dequantize);
  prefer(flags.reserve, from_file.reserve);
  prefer(flags.excluded, from_file.excluded);
  prefer(flags.priority, from_file.priority);
  prefer(flags.no_split, from_file.no_split);
  prefer(flags.never_offload, from_file.never_offload);
  prefer(flags.overrides, from_file.overrides);
  prefer(flags.batch, from_file.batch);
  prefer(flags.context, from_file.context);
  prefer(flags.prompt_tokens, from_file.prompt_tokens);
  prefer(flags.new_tokens, from_file.new_tokens);
  prefer(flags.kv_dtype, from_file.kv_dtype);
  prefer(flags.cpu_memory, from_file.cpu_memory);
  prefer(flags.prefault, from_file.prefault);
  prefer(flags.io, from_file.io);
  prefer(flags.staging, from_file.staging);
  prefer(flags.emulate, from_file.emulate);
  prefer(flags.verify, from_file.verify);
  prefer(flags.checksums, from_file.checksums);
  prefer(flags.offload_folder, from_file.offload_folder);
  prefer(flags.prompt, from_file.prompt);
  prefer(flags.prompt_ids, from_file.prompt_ids);
  prefer(flags.tokens, from_file.tokens);
  prefer(flags.logits, from_file.logits);
  prefer(flags.stop_at_eos, from_file.stop_at_eos);
  return flags;
}

}  // namespace berth
