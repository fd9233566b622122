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
endfunction()

function(dynamo_llm_sanitize target)
  if(DYNAMO_LLM_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=${DYNAMO_LLM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
    target_link_options(${target} PRIVATE -fsanitize=${DYNAMO_LLM_SANITIZE})
  endif()
endfunction()
