# Finds nvcc and libtorch. Both come from the project's virtual environment (scripts/setup) unless
# CMAKE_CUDA_COMPILER, CUDAToolkit_ROOT or Torch_DIR say otherwise. No GPU is needed to build.
set(BERTH_VENV ${PROJECT_SOURCE_DIR}/.venv CACHE PATH "Virtual environment that holds torch")

file(GLOB berth_site ${BERTH_VENV}/lib/python3*/site-packages)

if(BERTH_RUNTIME)
  # Linking libtorch_cpu and c10 by file keeps libtorch_cuda (350 MB of memory at start) out of
  # processes that use no GPU; the executor opens it by name where there is one.
  find_path(BERTH_TORCH_INCLUDE ATen/ATen.h HINTS ${berth_site}/torch/include NO_DEFAULT_PATH)
  get_filename_component(berth_torch_root "${BERTH_TORCH_INCLUDE}" DIRECTORY)
  find_library(BERTH_TORCH_CPU torch_cpu HINTS ${berth_torch_root}/lib NO_DEFAULT_PATH REQUIRED)
  find_library(BERTH_C10 c10 HINTS ${berth_torch_root}/lib NO_DEFAULT_PATH REQUIRED)
  add_library(berth_torch INTERFACE)
  target_include_directories(berth_torch SYSTEM INTERFACE ${BERTH_TORCH_INCLUDE})
  target_link_libraries(berth_torch INTERFACE ${BERTH_TORCH_CPU} ${BERTH_C10})
  set(BERTH_TORCH_LIB_DIR ${berth_torch_root}/lib)
endif()

if(NOT BERTH_CUDA)
  return()
endif()
find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDACXX ${berth_site}/nvidia/cu13/bin /usr/local/cuda/bin)
set(CMAKE_CUDA_ARCHITECTURES "80;89;90" CACHE STRING "Real architectures, and PTX of the last")
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_RUNTIME_LIBRARY $<IF:$<BOOL:${BERTH_LATE_CUDART}>,None,Shared>)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
# One cudart in the process: the one that libtorch's CUDA libraries come with.
set(CMAKE_BUILD_RPATH ${berth_site}/nvidia/cu13/lib ${BERTH_TORCH_LIB_DIR})
