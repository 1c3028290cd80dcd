#include "cli/options/calibrate_options.h"

#include <CLI/CLI.hpp>

namespace berth {

CLI::App* add_calibrate_command(CLI::App& app, CalibrateOptions& options) {
  CLI::App* sub =
      app.add_subcommand("calibrate", "measure this machine, for estimates that hold here");
  CLI::Option* model =
      sub->add_option(
             "MODEL", options.model,
             "a checkpoint folder or a .safetensors file: its disk is measured by reading it")
          ->type_name("")
          ->check(CLI::Validator(
              [](const std::string& text) {
                return text.empty() ? std::string("a model is named by its path") : std::string();
              },
              ""));
  sub->add_option("--disk", options.disk,
                  "measure this folder's disk by a temporary file (default: the current folder's)")
      ->type_name("FOLDER")
      ->group("Calibration")
      ->excludes(model);
  sub->add_option("--seconds", options.seconds, "time to spend (default 45)")
      ->type_name("N")
      ->group("Calibration")
      ->check(CLI::Range(0.1, 3600.0).description(""));
  sub->add_option("--out", options.out,
                  "machine file to write (default: where plan, load and run look for it, "
                  "~/.config/berth/machine.yaml)")
      ->type_name("FILE")
      ->group("Output");
  sub->add_flag("--json", options.json, "one JSON object on stdout")->group("Output");
  sub->footer("\nExample:\n  berth calibrate models/Llama-3.3-70B");
  return sub;
}

}  // namespace berth
