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

// The same from parsed YAML, touching no file: `folder` is what relative paths start from.
// The unit that is fuzzed.
Deployment parse_deployment(const YamlValue& document, const std::filesystem::path& folder);

// `flags` where they speak, else `file`. A flag also silences what it contradicts: --policy a
// device map of the file, --device-map its policy, --prompt its prompt_ids and the reverse.
Settings merge(const Settings& flags, const Settings& file);

}  // namespace berth
