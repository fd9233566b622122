// SPDX-License-Identifier: Apache-2.0
// The engine "python": hands what callers want to the loop thread, without the GIL.
//
// Commands go into a queue, and one write to a file descriptor wakes the loop, only if it is not
// awake for the queue already. The loop takes all commands at once and works on them in Python
// (dynamo_llm/runtime/host.py).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "python/api.hpp"

namespace dynamo::python::host {

struct Command {
    enum class Kind { start, generate, cancel, space, stop, exit, generate_data };
    Kind kind;
    std::uint64_t instance = 0;
    dynamo_stream_t *stream = nullptr;
    std::string request_id = {};
    std::string json = {};  // configuration or request; or data
    bool is_bytes = false;  // it is data, and no JSON
};

// Registers the engine. Returns a status.
std::int32_t register_engine();

// --- called by the loop thread, with the GIL ---
// Opens the queue: wakes are written to this descriptor, eight bytes each.
void open(int wake_fd);
// All commands since the last call. Call it after the descriptor was read.
std::vector<Command> take();
// detail: with DYNAMO_OK what the engine says of itself, else the error's details; both as JSON.
void report_start(std::uint64_t instance, std::int32_t status, std::string message,
                  std::string detail);
void report_stop(std::uint64_t instance);
// What a running instance says of itself from now on, as JSON.
void report_description(std::uint64_t instance, std::string description);
// Nobody will take commands any more: whoever waits gets an error, and so does who comes later.
void close();

// Whether this thread holds the GIL. PyGILState_Check() also says yes where it cannot know: after
// finalisation, and once there was a subinterpreter.
bool holds_gil() noexcept;

// --- called at the end of the process ---
// Asks the loop thread to stop engines and run Python's exit functions; waits for report_exit().
void exit_within(int milliseconds);
void report_exit();

}  // namespace dynamo::python::host
