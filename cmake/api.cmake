# Reads the public headers, the one source of what the library exports, and writes from them
#   exports.map / exports.txt   the linker's version script, and the plain list of names
#   api_table.h                 struct dynamo_api: a pointer for each function; how the Python module
#                               calls the library that loaded it, be it shared or linked statically
#   api_table.inc               initialiser of such a struct, inside the library
#   api_names.inc               DYNAMO_API_NAME(function), for looking them up
#   api_forward.inc             functions of the same names that call through such a struct
# A declaration starts with DYNAMO_LLM_API, ends with a semicolon, and names its parameters; a callback
# parameter has a typedef.

function(dynamo_llm_generate_api output_dir)
  set(names "")
  set(members "")
  set(values "")
  set(lookups "")
  set(forwards "")
  foreach(header IN LISTS ARGN)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}")
    file(READ "${header}" text)
    string(REGEX REPLACE "/\\*([^*]|\\*+[^*/])*\\*+/" "" text "${text}")
    string(REGEX REPLACE "#[^\n]*" "" text "${text}")
    string(REPLACE ";" "@" text "${text}")
    string(REGEX MATCHALL "DYNAMO_LLM_API[^@]*@" declarations "${text}")
    foreach(declaration IN LISTS declarations)
      string(REGEX REPLACE "[ \n\t]+" " " declaration "${declaration}")
      if(NOT declaration MATCHES "^DYNAMO_LLM_API (.*[ *])(dynamo_[a-z0-9_]+)\\((.*)\\)@$")
        message(FATAL_ERROR "${header}: cannot read the declaration: ${declaration}")
      endif()
      set(result "${CMAKE_MATCH_1}")
      set(name "${CMAKE_MATCH_2}")
      set(parameters "${CMAKE_MATCH_3}")
      set(arguments "")
      if(NOT parameters STREQUAL "void")
        string(REPLACE "," ";" list "${parameters}")
        foreach(parameter IN LISTS list)
          string(REGEX MATCH "[a-z0-9_]+$" argument "${parameter}")
          list(APPEND arguments "${argument}")
        endforeach()
      endif()
      list(JOIN arguments ", " arguments)
      list(APPEND names "${name}")
      string(APPEND members "    ${result}(*${name})(${parameters});\n")
      string(APPEND values "::${name},\n")
      string(APPEND lookups "DYNAMO_API_NAME(${name})\n")
      string(APPEND forwards
        "extern \"C\" ${result}${name}(${parameters}) { return the_api.${name}(${arguments}); }\n")
    endforeach()
  endforeach()
  list(SORT names)
  list(JOIN names "\n" lines)
  list(JOIN names ";\n    " exports)
  file(CONFIGURE OUTPUT "${output_dir}/exports.txt" CONTENT "${lines}\n" @ONLY)
  file(CONFIGURE OUTPUT "${output_dir}/exports.map" @ONLY CONTENT
"DYNAMO_LLM_@DYNAMO_LLM_ABI_VERSION@ {
  global:
    ${exports};
  local:
    *;
};
")
  file(CONFIGURE OUTPUT "${output_dir}/api_table.h" @ONLY CONTENT
"// Generated from the public headers.
#pragma once
#include \"dynamo_llm/cluster.h\"
#include \"dynamo_llm/engine.h\"
struct dynamo_api {
    size_t struct_size;
    const char *version;
${members}};
")
  file(CONFIGURE OUTPUT "${output_dir}/api_table.inc" CONTENT "${values}" @ONLY)
  file(CONFIGURE OUTPUT "${output_dir}/api_names.inc" CONTENT "${lookups}" @ONLY)
  file(CONFIGURE OUTPUT "${output_dir}/api_forward.inc" CONTENT "${forwards}" @ONLY)
endfunction()
