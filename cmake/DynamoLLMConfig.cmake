# find_package(DynamoLLM 1 COMPONENTS ...): imported targets of the installed library.
#   capi         DynamoLLM::capi, the shared library
#   capi_static  DynamoLLM::capi_static, the static one, with what it takes to link it
#   cxx          DynamoLLM::cxx, the C++ wrapper, a header: on capi, or on capi_static where that alone is asked for
# Without COMPONENTS it is capi and cxx. C is the only language that a project needs for the first two.

set(_DynamoLLM_known capi capi_static cxx)
set(_DynamoLLM_wanted ${DynamoLLM_FIND_COMPONENTS})
if(NOT _DynamoLLM_wanted)
  set(_DynamoLLM_wanted capi cxx)
endif()

set(_DynamoLLM_unknown ${_DynamoLLM_wanted})
list(REMOVE_ITEM _DynamoLLM_unknown ${_DynamoLLM_known})
foreach(_DynamoLLM_component IN LISTS _DynamoLLM_unknown)
  set(DynamoLLM_${_DynamoLLM_component}_FOUND FALSE)
  if(DynamoLLM_FIND_REQUIRED_${_DynamoLLM_component})
    set(DynamoLLM_FOUND FALSE)
    set(DynamoLLM_NOT_FOUND_MESSAGE
      "there is no component \"${_DynamoLLM_component}\"; there are: capi, capi_static, cxx")
    return()
  endif()
endforeach()

# The wrapper lies on a library, which comes along.
if("cxx" IN_LIST _DynamoLLM_wanted AND NOT "capi_static" IN_LIST _DynamoLLM_wanted)
  list(APPEND _DynamoLLM_wanted capi)
endif()

if("capi_static" IN_LIST _DynamoLLM_wanted)
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
endif()
foreach(_DynamoLLM_component IN ITEMS capi capi_static)
  if("${_DynamoLLM_component}" IN_LIST _DynamoLLM_wanted)
    include("${CMAKE_CURRENT_LIST_DIR}/DynamoLLM-${_DynamoLLM_component}.cmake")
    set(DynamoLLM_${_DynamoLLM_component}_FOUND TRUE)
  endif()
endforeach()
if("cxx" IN_LIST _DynamoLLM_wanted)
  if(NOT TARGET DynamoLLM::cxx)  # the first call in a project says on which library it lies
    add_library(DynamoLLM::cxx INTERFACE IMPORTED)
    if("capi" IN_LIST _DynamoLLM_wanted)
      set_target_properties(DynamoLLM::cxx PROPERTIES INTERFACE_LINK_LIBRARIES DynamoLLM::capi)
    else()
      set_target_properties(DynamoLLM::cxx PROPERTIES INTERFACE_LINK_LIBRARIES DynamoLLM::capi_static)
    endif()
    set_target_properties(DynamoLLM::cxx PROPERTIES INTERFACE_COMPILE_FEATURES cxx_std_17)
  endif()
  set(DynamoLLM_cxx_FOUND TRUE)
endif()
# CMake writes run paths as -Wl,-rpath,FOLDER, which splits at commas: a program could not be linked to a library in a
# folder that has one in its name.
if(UNIX AND NOT APPLE AND CMAKE_CURRENT_LIST_DIR MATCHES ",")
  get_property(_DynamoLLM_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  foreach(_DynamoLLM_language IN LISTS _DynamoLLM_languages)
    foreach(_DynamoLLM_kind IN ITEMS EXECUTABLE SHARED_LIBRARY)
      if(CMAKE_${_DynamoLLM_kind}_RUNTIME_${_DynamoLLM_language}_FLAG STREQUAL "-Wl,-rpath,")
        set(CMAKE_${_DynamoLLM_kind}_RUNTIME_${_DynamoLLM_language}_FLAG "-Xlinker -rpath -Xlinker ")
      endif()
    endforeach()
  endforeach()
  unset(_DynamoLLM_kind)
  unset(_DynamoLLM_language)
  unset(_DynamoLLM_languages)
endif()
unset(_DynamoLLM_known)
unset(_DynamoLLM_wanted)
unset(_DynamoLLM_unknown)
unset(_DynamoLLM_component)
