#include "cli/calibrate_options.h"

#include <CLI/CLI.hpp>

namespace berth {

CLI::App* add_calibrate_command(CLI::App& app, CalibrateOptions& options) {
  CLI::App* sub =
      app.add_subcommand("calibrate", "measure this machine, for estimates that hold here");
  CLI::Option* model =
      sub->add_option("MODEL", options.model,
                      "a checkpoint folder or .safetensors file, whose disk is measured by reading "
                      "it; without one a temporary file is made")
          ->type_name("");
  sub->add_option("--disk", options.disk,
                  "the folder whose disk is measured (default: the current one)")
      ->type_name("FOLDER")
      ->group("Calibration")
      ->excludes(model);
  sub->add_option("--seconds", options.seconds, "time to spend (default 45)")
      ->type_name("N")
      ->group("Calibration")
      ->check(CLI::Range(0.1, 3600.0));
  sub->add_option("--out", options.out,
                  "the machine file to write (default: $XDG_CONFIG_HOME/berth/machine.yaml, else "
                  "~/.config/berth/machine.yaml, where plan, load and run look)")
      ->type_name("FILE")
      ->group("Output");
  sub->add_flag("--json", options.json, "one JSON object on stdout")->group("Output");
  sub->footer("\nExample:\n  berth calibrate models/Llama-3.3-70B");
  return sub;
}

}  // namespace berth
