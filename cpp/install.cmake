# What is installed, in one of two layouts: below a prefix, or, in a wheel, inside the Python package.
include(CMakePackageConfigHelpers)

if(SKBUILD)
  set(install_libdir "dynamo_llm/lib")
  set(install_bindir "${install_libdir}")
  set(install_includedir "dynamo_llm/include")
  set(install_packagedir "dynamo_llm")
else()
  set(install_libdir "${CMAKE_INSTALL_LIBDIR}")
  set(install_bindir "${CMAKE_INSTALL_BINDIR}")
  set(install_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
  if(DYNAMO_LLM_PYTHON)
    set(install_packagedir
      "${CMAKE_INSTALL_LIBDIR}/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}/site-packages/dynamo_llm")
  endif()
endif()
set(install_cmakedir "${install_libdir}/cmake/DynamoLLM")
set(install_pkgconfigdir "${install_libdir}/pkgconfig")

# One export a library, so that a program that wants the one need not have what the other needs.
install(TARGETS dynamo_llm_capi_static EXPORT DynamoLLM-capi_static
  ARCHIVE DESTINATION "${install_libdir}"
  INCLUDES DESTINATION "${install_includedir}")
if(SKBUILD AND UNIX AND NOT APPLE)
  # A wheel cannot carry symbolic links, so the linker finds the library through a one-line script. It names the
  # file and not "-l:file", which gold, zig and tcc do not know.
  set(namelink NAMELINK_SKIP)
  file(CONFIGURE OUTPUT "${generated_dir}/libdynamo_llm_capi.so" @ONLY CONTENT
    "INPUT(libdynamo_llm_capi.so.@DYNAMO_LLM_ABI_VERSION@)\n")
  install(FILES "${generated_dir}/libdynamo_llm_capi.so" DESTINATION "${install_libdir}")
endif()
install(TARGETS dynamo_llm_capi EXPORT DynamoLLM-capi
  LIBRARY DESTINATION "${install_libdir}" ${namelink}
  ARCHIVE DESTINATION "${install_libdir}"
  RUNTIME DESTINATION "${install_bindir}"
  INCLUDES DESTINATION "${install_includedir}")
install(FILES "${PROJECT_SOURCE_DIR}/include/dynamo_llm.h" "${generated_dir}/include/dynamo_llm.hpp"
  DESTINATION "${install_includedir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/dynamo_llm" DESTINATION "${install_includedir}"
  PATTERN "cpp" EXCLUDE)  # the parts of dynamo_llm.hpp
if(NOT SKBUILD)  # a wheel has them in its metadata
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/THIRD_PARTY_NOTICES.txt"
    DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endif()

# find_package(DynamoLLM). All of it finds its folders from its own, so the tree may be moved.
foreach(component IN ITEMS capi capi_static)
  install(EXPORT DynamoLLM-${component} NAMESPACE DynamoLLM:: DESTINATION "${install_cmakedir}")
endforeach()
write_basic_package_version_file("${generated_dir}/DynamoLLMConfigVersion.cmake"
  VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMajorVersion)
install(FILES "${PROJECT_SOURCE_DIR}/cmake/DynamoLLMConfig.cmake" "${generated_dir}/DynamoLLMConfigVersion.cmake"
  DESTINATION "${install_cmakedir}")

# pkg-config: a file a library, because "--static" chooses among a library's dependencies, not between libraries.
set(pc_libdir "\${pcfiledir}/..")
if(IS_ABSOLUTE "${install_includedir}" OR IS_ABSOLUTE "${install_libdir}")
  set(pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")  # folders that were not asked to be movable
else()
  file(RELATIVE_PATH pc_includedir "/prefix/${install_pkgconfigdir}" "/prefix/${install_includedir}")
  set(pc_includedir "\${pcfiledir}/${pc_includedir}")
endif()
set(pc_private "-pthread")
foreach(library IN LISTS cxx_runtime CMAKE_DL_LIBS)
  string(APPEND pc_private " -l${library}")
endforeach()
set(pc_archive "${CMAKE_STATIC_LIBRARY_PREFIX}dynamo_llm_capi${CMAKE_STATIC_LIBRARY_SUFFIX}")
if(UNIX AND NOT APPLE)
  set(pc_archive "-L\${libdir} -l:${pc_archive}")  # pkgconf escapes blanks of a path in options only
else()
  set(pc_archive "\${libdir}/${pc_archive}")
endif()
foreach(library IN ITEMS dynamo_llm_capi dynamo_llm_capi_static)
  configure_file("${PROJECT_SOURCE_DIR}/cmake/${library}.pc.in" "${generated_dir}/${library}.pc" @ONLY)
  install(FILES "${generated_dir}/${library}.pc" DESTINATION "${install_pkgconfigdir}")
endforeach()

if(DYNAMO_LLM_PYTHON)
  install(TARGETS dynamo_llm_python LIBRARY DESTINATION "${install_packagedir}")
  if(TARGET dynamo_llm_stub)
    install(FILES "${package_dir}/_core.pyi" DESTINATION "${install_packagedir}")
  endif()
  if(NOT SKBUILD)  # there scikit-build-core takes the Python files itself
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/python/dynamo_llm/" DESTINATION "${install_packagedir}"
      PATTERN "__pycache__" EXCLUDE)
  endif()
endif()
