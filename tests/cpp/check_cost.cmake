# The wrapper's loops compile to the calls of the C loops: nothing is allocated, copied or added.
#   cmake -DCC=... -DCXX=... -DNM=... -DOBJDUMP=... -DINCLUDE=... -DSOURCE=folder -DWORK=folder -P check_cost.cmake
file(MAKE_DIRECTORY "${WORK}")

function(compile output compiler source)
  execute_process(COMMAND "${compiler}" -O2 ${ARGN} "-I${INCLUDE}" -c "${SOURCE}/${source}" -o "${WORK}/${output}"
    COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# What a function calls, from the relocations in its disassembly: a sorted list without repetitions. What the
# compiler put aside as unlikely, such as making an exception, is a function of its own there.
function(calls_of function object result)
  execute_process(COMMAND "${OBJDUMP}" -dr --no-show-raw-insn "${WORK}/${object}"
    OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," text "${text}")
  string(REGEX MATCH "<${function}>:\n([^\n]+\n)+" body "${text}")
  string(REGEX MATCHALL "R_[A-Z0-9_]+[ \t]+[A-Za-z0-9_]+" relocations "${body}")
  list(TRANSFORM relocations REPLACE "^R_[A-Z0-9_]+[ \t]+" "")
  list(SORT relocations)
  list(REMOVE_DUPLICATES relocations)
  if(NOT relocations)
    message(FATAL_ERROR "no calls found in ${function} of ${object}:\n${text}")
  endif()
  set(${result} "${relocations}" PARENT_SCOPE)
endfunction()

function(undefined_in object result)
  execute_process(COMMAND "${NM}" -u "${WORK}/${object}" OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[A-Za-z0-9_]+\n" names "${text}")
  list(TRANSFORM names STRIP)
  set(${result} "${names}" PARENT_SCOPE)
endfunction()

function(expect what found expected)
  if(NOT "${found}" STREQUAL "${expected}")
    message(FATAL_ERROR "${what} calls\n  ${found}\nand not\n  ${expected}")
  endif()
  message(STATUS "${what} calls ${found}")
endfunction()

compile(c.o "${CC}" cost_loop.c -std=c99)
compile(returning.o "${CXX}" cost_loop.cpp -std=c++17 -fno-exceptions)
compile(throwing.o "${CXX}" cost_loop.cpp -std=c++20)
compile(costly.o "${CXX}" cost_loop.cpp -std=c++17 -fno-exceptions -DCOSTLY)

# Without exceptions the whole object file needs what the C one needs.
undefined_in(c.o wanted)
undefined_in(returning.o found)
expect("all of C++ without exceptions" "${found}" "${wanted}")
undefined_in(costly.o found)
if("${found}" STREQUAL "${wanted}")
  message(FATAL_ERROR "an allocation in the loop went unseen: ${found}")
endif()

# With exceptions a loop may ask in addition whether the end was an error, and make that error.
foreach(loop IN ITEMS loop_next loop_over)
  calls_of(${loop} c.o wanted)
  calls_of(${loop} returning.o found)
  expect("${loop} without exceptions" "${found}" "${wanted}")
  calls_of(${loop} throwing.o found)
  if(loop STREQUAL "loop_over")
    list(FILTER found EXCLUDE REGEX "^(dynamo_last_status|_ZN10dynamo_llm8throwing5Error4lastEv)$")
  endif()
  list(FILTER found EXCLUDE REGEX "^${loop}$")  # a jump to its own unlikely part
  expect("${loop} with exceptions" "${found}" "${wanted}")
endforeach()
calls_of(loop_next c.o wanted)
calls_of(loop_costly costly.o found)
if("${found}" STREQUAL "${wanted}")
  message(FATAL_ERROR "an allocation in the loop went unseen: ${found}")
endif()
