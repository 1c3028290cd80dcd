# What is different where scikit-build-core builds Python's package (pyproject.toml). Whatever is set
# here can be set otherwise: pip install . -C cmake.define.BERTH_CUDA=OFF
option(BERTH_RUNTIME "Build the executor's part that needs libtorch" OFF)  # 400 MB that few need
option(BERTH_TESTS "Build the tests" OFF)

# With CUDA where there is a compiler for it, be it the machine's or the one of scripts/setup.
file(GLOB berth_site ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages)
find_program(CMAKE_CUDA_COMPILER nvcc
  HINTS ENV CUDACXX /usr/local/cuda/bin ${berth_site}/nvidia/cu13/bin)
if(CMAKE_CUDA_COMPILER)
  option(BERTH_CUDA "Build the loader with CUDA" ON)
else()
  option(BERTH_CUDA "Build the loader with CUDA" OFF)
  message(STATUS "no nvcc is here: this package will not load to GPUs by itself")
endif()
# A machine without CUDA's runtime opens the libraries, too.
set(BERTH_LATE_CUDART ON)

# Where `berth` and berth._library look for libraries.
set(CMAKE_INSTALL_LIBDIR lib)
