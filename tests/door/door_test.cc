// The loader's library, opened as the command line does it: by name, at run time.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/door/loader_api.h"

namespace berth {
namespace {

TEST(LoaderDoor, OpensByNameAndThrowsErrorsAcross) {
  void* library = dlopen(BERTH_BINARY_DIR "/libberth_loader.so", RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto door = reinterpret_cast<LoaderDoor>(dlsym(library, kLoaderDoor));
  ASSERT_NE(door, nullptr);
  const LoaderApi* api = door();
  ASSERT_EQ(api->version, kLoaderApiVersion);
  EXPECT_GT(api->host_memory().rss, 0u);
  EXPECT_GE(api->cuda_device_count(), 0);
  Model model;
  model.path = "config.json";
  EXPECT_THROW(api->load(model, Plan{}, LoadOptions{}), Error);
  EXPECT_THROW(api->load_naively(model), Error);
}

}  // namespace
}  // namespace berth
