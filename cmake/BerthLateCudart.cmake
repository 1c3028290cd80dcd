# CUDA's runtime is opened when Berth's libraries are, not linked (cuda/late_cudart.cc). Every function
# that it exports has a row of cudart_names.inc.
file(REAL_PATH ${CUDA_cudart_LIBRARY} berth_cudart)
execute_process(COMMAND ${CMAKE_NM} -D --defined-only ${berth_cudart} OUTPUT_VARIABLE berth_symbols
  COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL " T (__)?cuda[A-Za-z0-9_]+" berth_rows "${berth_symbols}")
list(TRANSFORM berth_rows REPLACE " T (.+)" "BERTH_CUDART(\\1)\n")
list(REMOVE_DUPLICATES berth_rows)
list(JOIN berth_rows "" berth_rows)
if(NOT berth_rows)
  message(FATAL_ERROR "${berth_cudart}: exports no function of CUDA's runtime")
endif()
file(CONFIGURE OUTPUT cudart_names.inc CONTENT "${berth_rows}")

target_sources(berth_cuda PRIVATE late_cudart.cc)
target_link_libraries(berth_cuda PUBLIC CUDA::toolkit ${CMAKE_DL_LIBS})
set_source_files_properties(late_cudart.cc PROPERTIES
  INCLUDE_DIRECTORIES ${CMAKE_CURRENT_BINARY_DIR}
  OBJECT_DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/cudart_names.inc
  COMPILE_DEFINITIONS "BERTH_CUDART_MAJOR=\"${CUDAToolkit_VERSION_MAJOR}\"")
