# Settings of everything that is compiled here.

function(dynamo_llm_compile target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    C_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 $<$<BOOL:${DYNAMO_LLM_WERROR}>:/WX>)
  else()
    target_compile_options(${target} PRIVATE
      -Wall -Wextra -Wpedantic $<$<BOOL:${DYNAMO_LLM_WERROR}>:-Werror>)
  endif()
  dynamo_llm_sanitize(${target})
  dynamo_llm_harden(${target})
endfunction()

# A defect in code that runs in somebody else's process should end as a crash there, and not as a way in: SECURITY.md.
include(CheckCXXCompilerFlag)
function(dynamo_llm_harden target)
  if(MSVC OR DYNAMO_LLM_SANITIZE)  # MSVC's defaults do it; sanitizers have their own ways
    return()
  endif()
  foreach(flag IN ITEMS -fstack-protector-strong -fstack-clash-protection -fcf-protection)
    string(MAKE_C_IDENTIFIER "DYNAMO_LLM_HAS${flag}" known)
    check_cxx_compiler_flag(${flag} ${known})
    if(${known})
      target_compile_options(${target} PRIVATE ${flag})
    endif()
  endforeach()
  # glibc wants optimisation for it; distributions that ask for more have set it themselves.
  target_compile_options(${target} PRIVATE
    "$<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:SHELL:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>")
  get_target_property(type ${target} TYPE)
  if(UNIX AND NOT APPLE AND NOT type STREQUAL "OBJECT_LIBRARY")
    target_link_options(${target} PRIVATE "LINKER:-z,relro,-z,now" "LINKER:-z,noexecstack")
  endif()
endfunction()

function(dynamo_llm_sanitize target)
  if(DYNAMO_LLM_SANITIZE)
    # Not "null": the exit of a thread has no exception object, so the C++ runtime binds the reference of a handler
    # of abi::__forced_unwind to null. AddressSanitizer reports the use of a null pointer, too.
    target_compile_options(${target} PRIVATE
      -fsanitize=${DYNAMO_LLM_SANITIZE} -fno-sanitize=null -fno-omit-frame-pointer
      -fno-sanitize-recover=undefined
      # Its checks make GCC 12 find variables uninitialized that are not.
      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    target_link_options(${target} PRIVATE -fsanitize=${DYNAMO_LLM_SANITIZE})
    # Clang links its runtime into the program: with C++'s part, which the library needs, only as a C++ program.
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  endif()
endfunction()
