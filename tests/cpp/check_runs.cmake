# A test program, compiled by a compiler of its own, runs.
#   cmake -DCOMPILER=... -DINCLUDE=... -DSOURCE=... -DOBJECTS=a.o,b.o -DLIBRARY=... -DPROGRAM=... -P check_runs.cmake
string(REPLACE "," ";" objects "${OBJECTS}")
cmake_path(GET LIBRARY PARENT_PATH folder)
execute_process(
  COMMAND "${COMPILER}" -std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Werror "-I${INCLUDE}" "${SOURCE}" ${objects}
    "${LIBRARY}" "-Wl,-rpath,${folder}" -pthread -o "${PROGRAM}"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${PROGRAM}" COMMAND_ERROR_IS_FATAL ANY)
