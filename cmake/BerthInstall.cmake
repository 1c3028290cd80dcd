# cmake --install: the program, its libraries and configs/, and a package for find_package(berth).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(berth_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/berth)
set(berth_headers_dir ${CMAKE_INSTALL_INCLUDEDIR}/berth)
set(berth_configs_dir ${CMAKE_INSTALL_DATADIR}/berth/configs)

# What a program names: berth::planner and berth::loader; the others come with them.
foreach(part options base checkpoint model machine planner loader)
  set_target_properties(berth_${part} PROPERTIES EXPORT_NAME ${part})
endforeach()
target_include_directories(berth_options INTERFACE
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}> $<INSTALL_INTERFACE:${berth_headers_dir}>)
target_compile_features(berth_options INTERFACE $<INSTALL_INTERFACE:cxx_std_20>)
target_compile_definitions(berth_options INTERFACE
  "$<INSTALL_INTERFACE:BERTH_INSTALLED_CONFIGS=\"$<INSTALL_PREFIX>/${berth_configs_dir}\">")

install(TARGETS berth RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS berth_options berth_base berth_checkpoint berth_model berth_machine berth_planner
  berth_loader
  EXPORT berth ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET berth_executor)
  install(TARGETS berth_executor LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs/ DESTINATION ${berth_configs_dir})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/planner DESTINATION ${berth_headers_dir}
  FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_SOURCE_DIR}/runtime/load/loader.h
  DESTINATION ${berth_headers_dir}/runtime/load)
install(FILES ${PROJECT_SOURCE_DIR}/runtime/convert/convert.h
  DESTINATION ${berth_headers_dir}/runtime/convert)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/berth.h DESTINATION ${berth_headers_dir})

install(EXPORT berth NAMESPACE berth:: FILE berthTargets.cmake DESTINATION ${berth_package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/berthConfig.cmake.in
  ${PROJECT_BINARY_DIR}/berthConfig.cmake INSTALL_DESTINATION ${berth_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/berthConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY ExactVersion)
install(FILES ${PROJECT_BINARY_DIR}/berthConfig.cmake ${PROJECT_BINARY_DIR}/berthConfigVersion.cmake
  DESTINATION ${berth_package_dir})
