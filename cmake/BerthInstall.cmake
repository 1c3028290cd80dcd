# cmake --install: the program, its libraries, the public headers (include/berth/, no others) and
# configs/, and a package for find_package(berth).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(berth_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/berth)
set(berth_configs_dir ${CMAKE_INSTALL_DATADIR}/berth/configs)

# A program names berth::planner or berth::loader; the others come with them. berth::loader brings
# berth::planner, because the library exports load() and convert() and hides what it has of the
# planner. berthConfig.cmake.in finds what the archives are linked with.
foreach(part options base checkpoint model machine planner loader)
  set_target_properties(berth_${part} PROPERTIES EXPORT_NAME ${part})
endforeach()
target_include_directories(berth_options INTERFACE
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(berth_options INTERFACE $<INSTALL_INTERFACE:cxx_std_20>)
target_compile_definitions(berth_options INTERFACE
  "$<INSTALL_INTERFACE:BERTH_INSTALLED_CONFIGS=\"$<INSTALL_PREFIX>/${berth_configs_dir}\">")

# Component `runtime` is what runs, which Python's package has inside (pyproject.toml); `development`
# is what programs are built with. Without a component both are installed.
install(TARGETS berth RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(TARGETS berth_options berth_base berth_checkpoint berth_model berth_machine berth_planner
  berth_loader
  EXPORT berth ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
foreach(library berth_c berth_executor berth_reference)
  if(TARGET ${library})
    install(TARGETS ${library} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
  endif()
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs/ DESTINATION ${berth_configs_dir} COMPONENT runtime)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/berth DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  COMPONENT development FILES_MATCHING PATTERN "*.h")

install(EXPORT berth NAMESPACE berth:: FILE berthTargets.cmake DESTINATION ${berth_package_dir}
  COMPONENT development)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/berthConfig.cmake.in
  ${PROJECT_BINARY_DIR}/berthConfig.cmake INSTALL_DESTINATION ${berth_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/berthConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY ExactVersion)
install(FILES ${PROJECT_BINARY_DIR}/berthConfig.cmake ${PROJECT_BINARY_DIR}/berthConfigVersion.cmake
  DESTINATION ${berth_package_dir} COMPONENT development)
