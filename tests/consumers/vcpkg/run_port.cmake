# Runs a portfile without vcpkg: the functions that it calls follow vcpkg's documentation, for
# the build type "release". cmake -DPORT_DIR=... -DROOT=... -DVCPKG_LIBRARY_LINKAGE=static -P run_port.cmake
#
# ROOT has the folders buildtrees, packages (what the port installs), and installed (its dependencies).
cmake_minimum_required(VERSION 3.21)

get_filename_component(PORT "${PORT_DIR}" NAME)
set(CURRENT_PORT_DIR "${PORT_DIR}")
set(CURRENT_BUILDTREES_DIR "${ROOT}/buildtrees/${PORT}")
set(CURRENT_PACKAGES_DIR "${ROOT}/packages/${PORT}")
set(CURRENT_INSTALLED_DIR "${ROOT}/installed")
set(VCPKG_BUILD_TYPE release)

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# Configures a CMake project, to be installed into the folder of the package.
function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "SOURCE_PATH" "OPTIONS")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCE_PATH)
    message(FATAL_ERROR "vcpkg_cmake_configure() needs SOURCE_PATH, and does not know: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  set(shared OFF)
  if(VCPKG_LIBRARY_LINKAGE STREQUAL "dynamic")
    set(shared ON)
  endif()
  run("${CMAKE_COMMAND}" -G Ninja -S "${arg_SOURCE_PATH}" -B "${CURRENT_BUILDTREES_DIR}"
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=12 "-DBUILD_SHARED_LIBS=${shared}"
    "-DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}" -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_BINDIR=bin
    "-DCMAKE_PREFIX_PATH=${CURRENT_INSTALLED_DIR}" ${arg_OPTIONS})
endfunction()

# Builds and installs the project.
function(vcpkg_cmake_install)
  run("${CMAKE_COMMAND}" --build "${CURRENT_BUILDTREES_DIR}" --target install --parallel 2)
endfunction()

# Moves the CMake package to share/PACKAGE_NAME, two folders below the prefix, and corrects the prefix in its files.
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "PACKAGE_NAME;CONFIG_PATH" "")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "vcpkg_cmake_config_fixup() does not know: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  set(target "${CURRENT_PACKAGES_DIR}/share/${arg_PACKAGE_NAME}")
  file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/share")
  file(RENAME "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}" "${target}")
  get_filename_component(parent "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}" DIRECTORY)
  file(REMOVE_RECURSE "${parent}")
  set(up "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
  file(GLOB files "${target}/*.cmake")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    string(FIND "${text}" "${up}" first)
    if(NOT first EQUAL -1)
      string(REPLACE "${up}" "" shorter "${text}")
      string(SUBSTRING "${shorter}" 0 ${first} before)
      string(SUBSTRING "${shorter}" ${first} -1 after)
      set(text "${before}${up}${up}${after}")
    endif()
    string(REPLACE "${CURRENT_PACKAGES_DIR}" "\${_IMPORT_PREFIX}" text "${text}")
    file(WRITE "${file}" "${text}")
  endforeach()
endfunction()

# Corrects the prefix in the pkg-config files; this port's find their folders from their own.
function(vcpkg_fixup_pkgconfig)
  file(GLOB files "${CURRENT_PACKAGES_DIR}/lib/pkgconfig/*.pc")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    string(FIND "${text}" "${CURRENT_PACKAGES_DIR}" found)
    if(NOT found EQUAL -1)
      message(FATAL_ERROR "${file} has the absolute path of the package")
    endif()
  endforeach()
endfunction()

# Puts the licenses into share/PORT/copyright.
function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "FILE_LIST")
  set(all "")
  foreach(file IN LISTS arg_FILE_LIST)
    file(READ "${file}" text)
    string(APPEND all "${text}\n")
  endforeach()
  file(WRITE "${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright" "${all}")
endfunction()

include("${PORT_DIR}/portfile.cmake")
