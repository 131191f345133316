#[[
onnxcal_calibrate(TARGET <name> MODEL <file.onnx> DATA <data>
                  [OUTPUT <file.onnx>] [LABELS <file>] [ALL]
                  [OPTIONS <option>...] [DEPENDS <file>...])

Adds a target that calibrates an ONNX classifier, again whenever one of the files changed that were read for it.

  DATA     x.npz, x.npy with LABELS, file.py:callable or module:callable
  OUTPUT   default <stem of MODEL>.calibrated.onnx in the current binary directory
  ALL      make it with the default target
  OPTIONS  of `onnxcal calibrate`, such as --max-ece 0.05
  DEPENDS  more files or targets: those that a callable reads, say

Relative files are in the current source directory, OUTPUT in the current binary directory. The target property
ONNXCAL_OUTPUT holds the path of the calibrated model. Where a gate or the verification says no, the build fails and an
older output stays as it was. Needs CMake 3.20 (depfiles); Ninja and the Makefile generators work.
]]
include_guard(GLOBAL)

find_program(ONNXCAL_EXECUTABLE onnxcal DOC "The onnxcal command" REQUIRED)

function(onnxcal_calibrate)
  cmake_parse_arguments(PARSE_ARGV 0 arg "ALL" "TARGET;MODEL;DATA;OUTPUT;LABELS" "OPTIONS;DEPENDS")
  if(DEFINED arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "onnxcal_calibrate: unknown argument '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  foreach(required TARGET MODEL DATA)
    if(NOT DEFINED arg_${required})
      message(FATAL_ERROR "onnxcal_calibrate: ${required} is missing")
    endif()
  endforeach()

  get_filename_component(model "${arg_MODEL}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  if(NOT DEFINED arg_OUTPUT)
    get_filename_component(stem "${arg_MODEL}" NAME_WLE)
    set(arg_OUTPUT "${stem}.calibrated.onnx")
  endif()
  get_filename_component(output "${arg_OUTPUT}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")

  set(inputs "${model}" ${arg_DEPENDS})
  if(arg_DATA MATCHES "^(.+\\.py):([^:/\\]+)$")
    set(callable "${CMAKE_MATCH_2}")
    get_filename_component(source "${CMAKE_MATCH_1}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    list(APPEND inputs "${source}")
    set(data "${source}:${callable}")
  elseif(arg_DATA MATCHES "\\.np[yz]$")
    get_filename_component(data "${arg_DATA}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    list(APPEND inputs "${data}")
  else()
    set(data "${arg_DATA}")
  endif()
  set(labels)
  if(DEFINED arg_LABELS)
    get_filename_component(file "${arg_LABELS}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    list(APPEND inputs "${file}")
    set(labels --labels "${file}")
  endif()

  add_custom_command(
    OUTPUT "${output}"
    COMMAND "${ONNXCAL_EXECUTABLE}" calibrate "${model}" --data "${data}" ${labels} -o "${output}"
            --force --quiet --depfile "${output}.d" ${arg_OPTIONS}
    DEPENDS ${inputs}
    DEPFILE "${output}.d"
    COMMENT "Calibrating ${arg_MODEL}"
    VERBATIM)
  set(all)
  if(arg_ALL)
    set(all ALL)
  endif()
  add_custom_target("${arg_TARGET}" ${all} DEPENDS "${output}")
  set_target_properties("${arg_TARGET}" PROPERTIES ONNXCAL_OUTPUT "${output}")
endfunction()
