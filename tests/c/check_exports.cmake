# The shared library exports exactly what the headers declare, and needs no Python.
#   cmake -DLIBRARY=... -DEXPORTS=... -DINCLUDE=... -DNM=... -DREADELF=... -P check_exports.cmake

function(check_same what actual expected)
  if(NOT actual STREQUAL expected)
    message(FATAL_ERROR "${what}:\n${actual}\ninstead of:\n${expected}")
  endif()
endfunction()

file(STRINGS "${EXPORTS}" listed)

set(declared "")
file(GLOB_RECURSE headers "${INCLUDE}/*.h")
foreach(header IN LISTS headers)
  file(READ "${header}" text)
  string(REGEX MATCHALL "\nDYNAMO_LLM_API [^;(]*dynamo_[a-z0-9_]+\\(" declarations "${text}")
  foreach(declaration IN LISTS declarations)
    string(REGEX MATCH "dynamo_[a-z0-9_]+\\($" name "${declaration}")
    string(REPLACE "(" "" name "${name}")
    list(APPEND declared "${name}")
  endforeach()
endforeach()
list(SORT declared)
check_same("The headers declare" "${declared}" "${listed}")

execute_process(COMMAND "${NM}" -D --defined-only "${LIBRARY}"
  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
set(exported "")
string(REPLACE "\n" ";" symbols "${symbols}")
foreach(symbol IN LISTS symbols)
  if(symbol MATCHES " T ([^@]+)@@DYNAMO_LLM_1$")
    list(APPEND exported "${CMAKE_MATCH_1}")
  elseif(NOT symbol MATCHES " A DYNAMO_LLM_1$" AND NOT symbol STREQUAL "")
    list(APPEND exported "not ours: ${symbol}")
  endif()
endforeach()
list(SORT exported)
check_same("The library exports" "${exported}" "${listed}")

execute_process(COMMAND "${READELF}" -d "${LIBRARY}"
  OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
if(NOT dynamic MATCHES "SONAME[^\n]*\\[libdynamo_llm_capi\\.so\\.1\\]")
  message(FATAL_ERROR "The soname is another:\n${dynamic}")
endif()
if(dynamic MATCHES "NEEDED[^\n]*python")
  message(FATAL_ERROR "The library needs Python:\n${dynamic}")
endif()
list(LENGTH listed count)
message(STATUS "${count} functions")
