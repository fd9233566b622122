# A file compiles alone, without a warning.
#   cmake -DCOMPILER=... -DLANGUAGE=c|c++ -DSTANDARD=c99 -DINCLUDE=... -DFILE=... -P check_compiles.cmake
set(flags -Wall -Wextra -Werror)
if(STANDARD)
  list(APPEND flags "-std=${STANDARD}" -Wpedantic)
endif()
execute_process(
  COMMAND "${COMPILER}" ${flags} -x ${LANGUAGE} "-I${INCLUDE}" -fsyntax-only "${FILE}"
  COMMAND_ERROR_IS_FATAL ANY)
