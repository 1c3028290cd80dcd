# Flags that every target of ours gets through berth_options: warnings, sanitizers, include root.

# Shared libraries export what BERTH_API marks (include/berth/error.h) and no other name of ours.
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

add_library(berth_options INTERFACE)
target_include_directories(berth_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
option(BERTH_WERROR "Treat warnings as errors" OFF)
target_compile_options(berth_options INTERFACE
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>>
  $<BUILD_INTERFACE:$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${BERTH_WERROR}>>:-Werror>>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlap in "text" + std::string (gcc.gnu.org/PR105329).
  target_compile_options(berth_options INTERFACE
    $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>>)
endif()
if(BERTH_SANITIZE)
  # The build type "Sanitized" of the presets: -O2 and full debug information would take twice as long
  # to compile, and tell no more of a fault's lines. They are the build type's flags, not options of
  # berth_options, so that a test's own -O0 comes after them. Asserts stay on, whatever the build
  # type says: these builds are there to find our own bugs.
  set(CMAKE_CXX_FLAGS_SANITIZED "-O1 -g1")
  target_compile_options(berth_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${BERTH_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -UNDEBUG>)
  target_link_options(berth_options INTERFACE -fsanitize=${BERTH_SANITIZE})
  # Compiled once a library: a fifth of the time that compiling takes there. Only here, because a
  # header that a source forgets to include must stay an error in the release build.
  set(berth_precompiled_headers <algorithm> <array> <cstdint> <filesystem> <functional> <map> <memory>
    <optional> <sstream> <string> <string_view> <utility> <variant> <vector>)
endif()

find_program(BERTH_CCACHE ccache)
if(BERTH_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${BERTH_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${BERTH_CCACHE})
endif()

if(BERTH_FUZZ)  # coverage for the fuzzers in every library; their own binaries bring the driver
  target_compile_options(berth_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>)
endif()
