#include "cli/options/convert_options.h"

#include <CLI/CLI.hpp>
#include <string>

#include "cli/options/flag_value.h"
#include "cli/options/values.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

// A flag whose text `parse` turns into the value; its errors come back naming the flag.
template <typename T, typename Parse>
void add_flag(CLI::App& app, const char* flag, const char* shape, std::optional<T>& target,
              const char* help, Parse parse) {
  const auto store = [flag, &target, parse](const std::string& text) {
    target = flag_value(flag, [&] { return parse(text); });
  };
  app.add_option_function<std::string>(flag, store, help)->type_name(shape)->group("Conversion");
}

}  // namespace

CLI::App* add_convert_command(CLI::App& app, ConvertCommand& options) {
  CLI::App* sub = app.add_subcommand("convert", "write a checkpoint as sharded safetensors");
  sub->add_option("IN", options.in, "a checkpoint folder, or a file of weights")
      ->type_name("")
      ->required();
  sub->add_option("OUT", options.out, "a folder that does not exist yet")
      ->type_name("")
      ->required();
  add_flag(*sub, "--dtype", "NAME", options.dtype,
           "dtype of what is stored as plain floats: auto (as stored, default), float32, float16 "
           "or bfloat16",
           dtype_from);
  add_flag(*sub, "--max-shard-size", "SIZE", options.max_shard,
           "bytes of tensors in a file, at most (default 5GB)", parse_size);
  add_flag(*sub, "--io", "ENGINE", options.io, "auto (default), buffered, direct or uring",
           io_engine_from);
  add_flag(*sub, "--staging", "SIZE", options.staging, "bound of transient memory (default 128MiB)",
           staging_from);
  sub->add_flag("--json", options.json, "one JSON object on stdout")->group("Output");
  sub->footer("\nExample:\n  berth convert models/gpt2-medium-bin models/gpt2-medium");
  return sub;
}

}  // namespace berth
