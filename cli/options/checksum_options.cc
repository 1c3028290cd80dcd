#include "cli/options/checksum_options.h"

#include <CLI/CLI.hpp>

#include "cli/options/flag_value.h"
#include "cli/options/values.h"

namespace berth {

std::filesystem::path checksum_file(const std::filesystem::path& model,
                                    const Checkpoint& checkpoint) {
  std::error_code ignored;
  const bool gguf = checkpoint.format == "GGUF";
  if (!gguf && std::filesystem::is_directory(model, ignored)) return model / "berth.checksums.json";
  return (gguf ? checkpoint.shards[0].path : model).string() + ".checksums.json";
}

CLI::App* add_checksum_command(CLI::App& app, ChecksumOptions& options) {
  CLI::App* sub =
      app.add_subcommand("checksum", "write a checksum per tensor, for load and run --verify");
  sub->add_option("MODEL", options.model, "a checkpoint folder or file, GGUF too")
      ->type_name("")
      ->required();
  sub->add_option("--out", options.out,
                  "file to write (default: berth.checksums.json in the folder, or the file's name "
                  "with .checksums.json)")
      ->type_name("FILE")
      ->group("Output");
  sub->add_option_function<std::string>(
         "--io",
         [&options](const std::string& text) {
           options.io = flag_value("--io", [&] { return io_engine_from(text); });
         },
         "auto (default), buffered, direct or uring")
      ->type_name("ENGINE")
      ->group("Reading");
  sub->add_option_function<std::string>(
         "--staging",
         [&options](const std::string& text) {
           options.staging = flag_value("--staging", [&] { return staging_from(text); });
         },
         "bound of transient memory (default 128MiB)")
      ->type_name("SIZE")
      ->group("Reading");
  sub->footer("\nExample:\n  berth checksum models/SmolLM2-135M-Instruct");
  return sub;
}

}  // namespace berth
