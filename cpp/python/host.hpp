// SPDX-License-Identifier: Apache-2.0
// The engine "python": passes calls to the loop thread (which runs the asyncio event loop), without the GIL.
//
// Commands go into a queue. A write to a file descriptor wakes the loop, unless an earlier write is still
// pending. The loop takes all commands at once and executes them in Python
// (dynamo_llm/runtime/host.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "python/api.hpp"

namespace dynamo::python::host {

struct Command {
    enum class Kind {
        start,
        generate,
        cancel,
        writable,
        stop,
        exit,
        generate_data,
        cancel_start,
        call,
        frontend_error,
        router_calls  // a router has calls (router_calls.hpp)
    };
    Kind kind;
    std::uint64_t instance = 0;
    dynamo_stream_t *stream = nullptr;
    std::string request_id = {};
    // Configuration or request, the payload of a raw request, {"name": ..., "arguments": ...} of a control call, or the
    // HTTP status of a failed answer, a space, and the error's text.
    std::string json = {};
    bool is_bytes = false;  // `json` has bytes instead of JSON
};

// Registers the engine. Returns a status.
std::int32_t register_engine();

// --- called by the loop thread, with the GIL ---
// Opens the queue. Each wake writes eight bytes to this descriptor.
void open(int wake_fd);
// Marks the calling thread as the loop thread.
void enter_loop();
// Returns all commands since the last call. Call it after reading the descriptor.
std::vector<Command> take();
// detail: with DYNAMO_OK the engine's description, otherwise the error details; both are JSON.
void report_start(std::uint64_t instance, std::int32_t status, std::string message,
                  std::string detail);
// Returns false if the creation of the runtime was cancelled. fraction: -1 if it is not known.
bool report_progress(std::uint64_t instance, std::string phase, std::uint64_t bytes_done,
                     std::uint64_t bytes_total, double fraction);
void report_stop(std::uint64_t instance);
// Replaces the description of a running instance, as JSON.
void report_description(std::uint64_t instance, std::string description);
// Replaces the metrics that a running instance defines, as lines in Prometheus' text format.
void report_metrics(std::uint64_t instance, std::string lines);
// Closes the queue, because the loop takes no more commands. Waiting calls and later calls fail, and so do requests that
// are with Dynamo's frontend. is_exiting: the process exits without finalizing Python.
void close(bool is_exiting);

// --- called by any thread ---
// Makes the loop thread take the calls of a router. Does nothing once the queue is closed.
void post_router_calls(std::uint64_t instance);
// Sets the error of a caller whose engine ended with Python. Blocks first if the process is exiting. Returns CLOSED.
std::int32_t fail_closed();

// Returns whether this thread holds the GIL. Use it instead of PyGILState_Check(), which always returns 1 after
// finalization, and once the process has created a subinterpreter.
bool holds_gil() noexcept;

// Returns whether this is the loop thread, which must not block while the queue is open.
bool is_loop_thread() noexcept;

// Checks whether this thread must not wait inside the library (dynamo::wait_check::Callback of base/wait_check.hpp):
// it is the loop thread, or it holds the GIL and would wait for an engine in Python.
std::int32_t check_wait(const char *call, std::int32_t hosted, char *why, std::size_t size);

// --- called at the end of the process ---
// Asks the loop thread to stop engines and to run Python's exit functions, and waits for report_exit().
void exit_within(int milliseconds);
void report_exit();
// Ends the process with this exit code after a time, unless it is called again before; -1 only cancels an earlier
// call. Needed where Python cannot continue, because C code holds the GIL and does not return.
void end_process_in(std::int64_t milliseconds, int code);

}  // namespace dynamo::python::host
