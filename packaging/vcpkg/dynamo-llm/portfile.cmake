# The vcpkg port of the C and C++ library, from the clone that it lies in: an overlay port.
get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../../.." ABSOLUTE)

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DDYNAMO_LLM_PYTHON=OFF  # the Python module and the tests belong to an installation with pip
    -DDYNAMO_LLM_TESTS=OFF
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME DynamoLLM CONFIG_PATH lib/cmake/DynamoLLM)
vcpkg_fixup_pkgconfig()

# A triplet has one kind of library.
if(VCPKG_LIBRARY_LINKAGE STREQUAL "dynamic")
  set(other capi_static)
  set(other_library "libdynamo_llm_capi.a")
else()
  set(other capi)
  set(other_library "libdynamo_llm_capi.so*")
endif()
foreach(folder IN ITEMS "${CURRENT_PACKAGES_DIR}" "${CURRENT_PACKAGES_DIR}/debug")
  file(GLOB files
    "${folder}/lib/${other_library}"
    "${folder}/lib/pkgconfig/dynamo_llm_${other}.pc"
    "${folder}/share/DynamoLLM/DynamoLLM-${other}.cmake"
    "${folder}/share/DynamoLLM/DynamoLLM-${other}-*.cmake")
  if(files)
    file(REMOVE ${files})
  endif()
endforeach()

file(REMOVE_RECURSE
  "${CURRENT_PACKAGES_DIR}/debug/include"
  "${CURRENT_PACKAGES_DIR}/debug/share"
  "${CURRENT_PACKAGES_DIR}/share/doc")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE" "${SOURCE_PATH}/THIRD_PARTY_NOTICES.txt")
