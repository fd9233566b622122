# The wheel's software bill of materials: what is compiled into its binaries (PEP 770, CycloneDX). What it needs when it
# runs is in its metadata.

# dynamo_llm_macro_version(VARIABLE FILE PREFIX): the version that a header defines as PREFIX_MAJOR, PREFIX_MINOR, and PREFIX_PATCH.
function(dynamo_llm_macro_version variable file prefix)
  set(parts "")
  foreach(part IN ITEMS MAJOR MINOR PATCH)
    file(STRINGS "${file}" line REGEX "^ *# *define +${prefix}_${part} +[0-9]+" LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+" number "${line}")
    if(number STREQUAL "")
      message(FATAL_ERROR "${file} does not define ${prefix}_${part}")
    endif()
    list(APPEND parts "${number}")
  endforeach()
  list(JOIN parts "." version)
  set(${variable} "${version}" PARENT_SCOPE)
endfunction()

function(dynamo_llm_install_sbom)
  get_target_property(json_dir nlohmann_json::nlohmann_json INTERFACE_INCLUDE_DIRECTORIES)
  string(REGEX REPLACE "^\\$<BUILD_INTERFACE:(.*)>$" "\\1" json_dir "${json_dir}")
  dynamo_llm_macro_version(json_version "${json_dir}/nlohmann/detail/abi_macros.hpp" NLOHMANN_JSON_VERSION)
  dynamo_llm_macro_version(robin_map_version "${NB_DIR}/ext/robin_map/include/tsl/robin_growth_policy.h" TSL_RH_VERSION)
  configure_file("${PROJECT_SOURCE_DIR}/cmake/sbom.cdx.json.in" "${PROJECT_BINARY_DIR}/generated/dynamo_llm.cdx.json")
  install(FILES "${PROJECT_BINARY_DIR}/generated/dynamo_llm.cdx.json" DESTINATION "${SKBUILD_METADATA_DIR}/sboms")
endfunction()
