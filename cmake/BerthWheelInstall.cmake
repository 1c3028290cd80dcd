# What Python's package has inside besides the component `runtime`.

# Oniguruma, which is opened by its name (planner/base/oniguruma.h), so that no tool sees that it is
# needed. The name is the one that is opened.
find_library(BERTH_ONIG onig REQUIRED)
file(REAL_PATH ${BERTH_ONIG} berth_onig_file)
install(FILES ${berth_onig_file} DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME libonig.so.5
  PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE
  COMPONENT runtime)

# The licences of what a wheel carries of others, linked, compiled in or beside it.
# scripts/make-wheel checks that none is missing. They are where Debian keeps them.
find_program(BERTH_DPKG_QUERY dpkg-query)
function(berth_licence name file)
  if(NOT BERTH_DPKG_QUERY)
    message(STATUS "no dpkg-query is here: the licence of ${name} does not go into the package")
    return()
  endif()
  file(REAL_PATH ${file} path)
  execute_process(COMMAND ${BERTH_DPKG_QUERY} -S ${path} OUTPUT_VARIABLE owner ERROR_QUIET)
  string(REGEX REPLACE "[:,].*" "" package "${owner}")
  set(text /usr/share/doc/${package}/copyright)
  if(package AND EXISTS ${text})
    install(FILES ${text} DESTINATION ${SKBUILD_METADATA_DIR}/licenses RENAME ${name}.txt
      COMPONENT runtime)
  else()
    message(STATUS "no package has ${path}: the licence of ${name} does not go into the package")
  endif()
endfunction()

berth_licence(boost ${Boost_INCLUDE_DIRS}/boost/version.hpp)
find_file(BERTH_CLI11_HEADER CLI/CLI.hpp REQUIRED)
berth_licence(cli11 ${BERTH_CLI11_HEADER})
find_library(BERTH_FMT fmt REQUIRED)
berth_licence(libfmt ${BERTH_FMT})
find_library(BERTH_ICU icuuc REQUIRED)
berth_licence(libicuuc ${BERTH_ICU})
berth_licence(libicudata ${BERTH_ICU})
berth_licence(libonig ${BERTH_ONIG})
berth_licence(libre2 ${BERTH_RE2})
find_library(BERTH_SIMDJSON simdjson REQUIRED)
berth_licence(libsimdjson ${BERTH_SIMDJSON})
if(BERTH_LIBURING)
  berth_licence(liburing ${BERTH_LIBURING})
endif()
berth_licence(libxxhash ${BERTH_XXHASH})
berth_licence(libyaml ${BERTH_YAML})
