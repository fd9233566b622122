# Joins include/dynamo_llm.hpp and its parts, include/dynamo_llm/cpp/*.hpp, into one header, which can be copied. In a
# project: dynamo_llm_amalgamate(OUTPUT). Without one: cmake -DOUTPUT=dynamo_llm.hpp -P cmake/amalgamate.cmake
# The header names every part, in order, so the #include lines between parts are dropped.

function(dynamo_llm_amalgamate output)
  set(folder "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../include")
  file(READ "${folder}/dynamo_llm.hpp" header)
  set(sources "${folder}/dynamo_llm.hpp")
  string(REGEX MATCHALL "dynamo_llm/cpp/[a-z_]+[.]hpp" parts "${header}")
  string(REGEX REPLACE "// The parts of this header[^#]*\n|// clang-format on\n" "" header "${header}")
  foreach(part IN LISTS parts)
    list(APPEND sources "${folder}/${part}")
    file(READ "${folder}/${part}" text)
    string(REGEX REPLACE "^// SPDX[^\n]*\n#pragma once\n\n" "" text "${text}")
    string(REGEX REPLACE "(#include \"[^\n]*\n)+\n" "" text "${text}")
    string(REPLACE "#include \"${part}\"\n" "// ${part}\n\n${text}\n" header "${header}")
  endforeach()
  # The namespace need not end and begin again between two parts.
  string(REGEX REPLACE "\n+DYNAMO_LLM_END\n\n(// [^\n]*\n\n)DYNAMO_LLM_BEGIN\n" "\n\n\\1" header "${header}")
  string(REGEX REPLACE "\n\n\n+" "\n\n" header "${header}")
  if(header MATCHES "#pragma once|#include \"[^\n]*/")
    message(FATAL_ERROR "include/dynamo_llm.hpp cannot be joined with its parts: \"${CMAKE_MATCH_0}\" is left")
  endif()
  file(WRITE "${output}.new" "${header}")
  file(COPY_FILE "${output}.new" "${output}" ONLY_IF_DIFFERENT)
  file(REMOVE "${output}.new")
  if(NOT CMAKE_SCRIPT_MODE_FILE)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${sources})
  endif()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  dynamo_llm_amalgamate("${OUTPUT}")
endif()
