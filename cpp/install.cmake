# What is installed, in one of two layouts: below a prefix, or, in a wheel, inside the Python package.
if(SKBUILD)
  set(install_libdir "dynamo_llm/lib")
  set(install_includedir "dynamo_llm/include")
  set(install_packagedir "dynamo_llm")
else()
  set(install_libdir "${CMAKE_INSTALL_LIBDIR}")
  set(install_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
  if(DYNAMO_LLM_PYTHON)
    set(install_packagedir
      "${CMAKE_INSTALL_LIBDIR}/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}/site-packages/dynamo_llm")
  endif()
endif()

install(TARGETS dynamo_llm_capi_static ARCHIVE DESTINATION "${install_libdir}")
if(SKBUILD AND UNIX AND NOT APPLE)
  # A wheel cannot carry symbolic links, so the linker finds the library through a one-line script.
  install(TARGETS dynamo_llm_capi LIBRARY DESTINATION "${install_libdir}" NAMELINK_SKIP)
  file(CONFIGURE OUTPUT "${generated_dir}/libdynamo_llm_capi.so" @ONLY CONTENT
    "INPUT(-l:libdynamo_llm_capi.so.@DYNAMO_LLM_ABI_VERSION@)\n")
  install(FILES "${generated_dir}/libdynamo_llm_capi.so" DESTINATION "${install_libdir}")
else()
  install(TARGETS dynamo_llm_capi
    LIBRARY DESTINATION "${install_libdir}"
    ARCHIVE DESTINATION "${install_libdir}"
    RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(FILES "${PROJECT_SOURCE_DIR}/include/dynamo_llm.h" "${PROJECT_SOURCE_DIR}/include/dynamo_llm.hpp"
  DESTINATION "${install_includedir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/dynamo_llm" DESTINATION "${install_includedir}")

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
