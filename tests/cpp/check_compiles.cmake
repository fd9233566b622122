# The headers compile alone, and with all of dynamo_llm.hpp used, without a warning. JOINED is the folder of the joined
# dynamo_llm.hpp, INCLUDE that of the one that includes its parts.
#   cmake -DCOMPILER=... -DSTANDARD=c++17 -DEXCEPTIONS=-fexceptions -DJOINED=... -DINCLUDE=... -DUSE=use.cpp -P check_compiles.cmake
set(flags -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror ${EXCEPTIONS} "-I${JOINED}" "-I${INCLUDE}"
  -fsyntax-only -x c++)
# Compilers that do not know a standard under its name have it under its older one.
execute_process(COMMAND "${COMPILER}" "-std=${STANDARD}" -fsyntax-only -x c++ /dev/null
  RESULT_VARIABLE unknown ERROR_QUIET)
if(unknown AND STANDARD STREQUAL "c++23")
  set(STANDARD "c++2b")
endif()
foreach(file IN ITEMS
    "${JOINED}/dynamo_llm.hpp" "${INCLUDE}/dynamo_llm.hpp" "${INCLUDE}/dynamo_llm/cluster.hpp" "${USE}")
  execute_process(COMMAND "${COMPILER}" "-std=${STANDARD}" ${flags} "${file}" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
