// Reads a deployment file from arbitrary bytes. It must be a deployment, or an Error that begins
// with the file's name. Nothing else may be thrown, and no file may be touched.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "berth/error.h"
#include "cli/options/deployment.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    berth::parse_deployment(berth::parse_yaml(text, "deploy.yaml"), "folder");
  } catch (const berth::Error& error) {
    if (std::string_view(error.what()).substr(0, 11) != "deploy.yaml") std::abort();
  }
  return 0;
}
