// A deployment file: a model and everything that flags can say about it, in one YAML.
//
//   model: ../models/Llama-3.3-70B        # relative to this file
//   machine: 2x4090                       # a name in configs/hardware, a file, or a mapping
//   max_memory: {0: 22GiB, cpu: 100GiB}
//   workload: {context: 8192, kv_dtype: float16}
//   overrides:
//     - {match: "model.layers.2?.*", device: cpu}
//
// The option table has all keys (option_table.cc), docs/guide.md explains them. Unknown keys, wrong
// types and values are Errors "file:line: field: ...".
#pragma once

#include <filesystem>
#include <string>

#include "cli/options/settings.h"
#include "planner/base/yaml.h"

namespace berth {

struct Deployment {
  std::filesystem::path model;  // resolved against the file's folder
  Settings settings;            // paths in it resolved likewise
};

Deployment read_deployment(const std::filesystem::path& file);

// Like read_deployment(), but takes parsed YAML and touches no file. Relative paths start from
// `folder`. A fuzzer calls this function.
Deployment parse_deployment(const YamlValue& document, const std::filesystem::path& folder);

// Merges flags and file: a setting that a flag gives comes from `flags`, any other from `file`. A
// flag also drops the settings of the file that contradict it: --policy drops a device map,
// --device-map drops the policy, --prompt drops prompt_ids, and --prompt-ids drops the prompt.
Settings merge(const Settings& flags, const Settings& file);

}  // namespace berth
