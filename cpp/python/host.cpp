// SPDX-License-Identifier: Apache-2.0
#include <Python.h>

#include "python/host.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include <pthread.h>
#include <unistd.h>

#include "base/detached_thread.hpp"
#include "base/thread_object.hpp"
#include "frontend/client.hpp"
#include "python/gil.hpp"
#include "python/router_calls.hpp"
#include "python/text_stages.hpp"

namespace dynamo::python::host {
namespace {

struct Progress {
    std::string phase;
    std::uint64_t bytes_done = 0;
    std::uint64_t bytes_total = 0;
    double fraction = -1;
};

// The result of a start or stop, for the thread that waits for it.
struct Outcome {
    bool is_done = false;
    std::vector<Progress> progress = {};  // of a start, until the thread has passed it on
    bool is_cancelled = false;            // nobody wants the engine any more
    std::int32_t status = DYNAMO_OK;
    std::string message;
    std::string detail;
};

// A Prometheus histogram of the time from waking the loop thread until it has the GIL and takes its commands. Long
// times are caused by waiting for the GIL.
class WaitTimes {
  public:
    void add(std::chrono::steady_clock::duration time) {
        const double seconds = std::chrono::duration<double>(time).count();
        sum_ += seconds;
        ++count_;
        for (std::size_t i = 0; i < bounds.size(); ++i) {
            buckets_[i] += static_cast<std::uint64_t>(seconds <= bounds[i].seconds);
        }
    }

    std::string text() const {
        std::string out =
            "# HELP dynamo_llm_python_wait_seconds From waking Python's loop thread until it has "
            "the GIL and takes what waits for it; of the whole process.\n"
            "# TYPE dynamo_llm_python_wait_seconds histogram\n";
        const std::string name = "dynamo_llm_python_wait_seconds";
        for (std::size_t i = 0; i < bounds.size(); ++i) {
            out += name + "_bucket{le=\"" + bounds[i].text + "\"} " + std::to_string(buckets_[i]) +
                   "\n";
        }
        out += name + "_bucket{le=\"+Inf\"} " + std::to_string(count_) + "\n";
        // Formats integers only, because the host's locale affects the decimal point of floating-point numbers.
        const auto nanoseconds = static_cast<std::uint64_t>(sum_ * 1e9);
        const std::string fraction = std::to_string(nanoseconds % 1'000'000'000);
        const std::string sum = std::to_string(nanoseconds / 1'000'000'000) + "." +
                                std::string(9 - fraction.size(), '0') + fraction;
        return out + name + "_sum " + sum + "\n" + name + "_count " + std::to_string(count_) + "\n";
    }

  private:
    struct Bound {
        double seconds;
        const char *text;
    };
    static constexpr std::array bounds = {
        Bound{1e-05, "1e-05"},   Bound{2.5e-05, "2.5e-05"}, Bound{5e-05, "5e-05"},
        Bound{0.0001, "0.0001"}, Bound{0.00025, "0.00025"}, Bound{0.0005, "0.0005"},
        Bound{0.001, "0.001"},   Bound{0.0025, "0.0025"},   Bound{0.005, "0.005"},
        Bound{0.01, "0.01"},     Bound{0.1, "0.1"},         Bound{1, "1"}};
    std::array<std::uint64_t, bounds.size()> buckets_{};
    std::uint64_t count_ = 0;
    double sum_ = 0;
};

struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Command> commands;
    int wake_fd = -1;
    bool is_awake = false;  // a wake was written, and take() has not been called since
    std::chrono::steady_clock::time_point woken_at;
    WaitTimes waits;
    std::atomic<bool> is_open{false};  // written only with `mutex` locked
    bool has_exited = false;
    bool is_exiting = false;  // the process exits, in exiting_thread
    pthread_t exiting_thread{};
    std::uint64_t last_instance = 0;
    std::map<std::uint64_t, Outcome *> waiting;
    std::map<std::uint64_t, std::string> descriptions;  // of running instances
    std::map<std::uint64_t, std::string> metrics;       // likewise, if they have metrics
};

// Leaked, because callers may use it while the process exits.
State &state() {
    static State *const instance = new State;
    return *instance;
}

// How long a call blocks its thread while the process exits; documented in docs/embedding.md.
constexpr std::chrono::seconds exit_block{5};

thread_local constinit bool runs_loop = false;

// What a coroutine must use instead of a call that waits; part of error messages.
struct Asynchronous {
    const char *call;
    const char *form;
};
constexpr std::array<Asynchronous, 9> asynchronous = {{
    {"dynamo_runtime_create()", "await Runtime.open(...)"},
    {"dynamo_request_recv()", "await request, or async for response in request"},
    {"dynamo_runtime_call()", "await runtime.call_async(...)"},
    {"dynamo_runtime_shutdown()",
     "async with runtime, or await asyncio.to_thread(runtime.close) or (runtime.shutdown)"},
    {"dynamo_tokenizer_create()", "await Tokenizer.open(...)"},
    {"dynamo_router_create()", "await Router.open(...)"},
    {"dynamo_worker_create()", "await Worker.open(...)"},
    {"dynamo_kv_publisher_create()", "await KvPublisher.open(...)"},
    {"dynamo_stream_wait()",
     "let the asynchronous generator yield, which waits until the stream is writable"},
}};

const char *asynchronous_form(const char *call) noexcept {
    for (const Asynchronous &each : asynchronous) {
        if (std::strcmp(each.call, call) == 0) {
            return each.form;
        }
    }
    return "await asyncio.to_thread(...)";
}

constexpr const char *closed_message =
    "Python in this process is shutting down, and its engines with it";

// Requires the state's mutex.
void enqueue(Command command) {
    State &host = state();
    host.commands.push_back(std::move(command));
    if (!host.is_awake) {
        host.is_awake = true;
        host.woken_at = std::chrono::steady_clock::now();
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(host.wake_fd, &one, sizeof one);
    }
}

// Blocks a thread that needs Python while another thread exits the process: in C++ an error would become an
// exception, which a program that is already exiting is unlikely to catch. The time is limited, because a destructor
// may join this thread before the process ends.
void block_while_exiting() {
    {
        const std::lock_guard lock(state().mutex);
        if (!state().is_exiting || ::pthread_equal(state().exiting_thread, ::pthread_self()) != 0) {
            return;
        }
    }
    std::this_thread::sleep_for(exit_block);
}

bool try_post(Command command) {
    const std::lock_guard lock(state().mutex);
    if (!state().is_open) {
        return false;
    }
    enqueue(std::move(command));
    return true;
}

// Posts a command for a caller of the library. A closed queue is an error; the call blocks first only if the
// process is exiting.
std::int32_t post(Command command) {
    return try_post(std::move(command)) ? static_cast<std::int32_t>(DYNAMO_OK) : fail_closed();
}

// How often a thread that starts an engine asks whether it is still wanted.
constexpr std::chrono::milliseconds cancel_check{50};
// Reports of an engine that wait for that thread. A later one replaces the last one.
constexpr std::size_t max_progress = 16;

// Passes the progress of a start on, and a cancel to the loop thread. Requires the state's mutex, which is released
// meanwhile.
void pass_on(std::unique_lock<std::mutex> &lock, std::uint64_t instance, Outcome &outcome) {
    std::vector<Progress> reports = std::exchange(outcome.progress, {});
    lock.unlock();
    std::int32_t status = dynamo_engine_progress(nullptr);
    for (const Progress &report : reports) {
        const dynamo_progress_t progress = {sizeof progress,   report.phase.c_str(),
                                            report.bytes_done, report.bytes_total,
                                            report.fraction,   nullptr};
        status = dynamo_engine_progress(&progress);
    }
    lock.lock();
    if (status == DYNAMO_ERROR_CANCELLED && !std::exchange(outcome.is_cancelled, true) &&
        state().is_open) {
        enqueue({Command::Kind::cancel_start, instance});
    }
}

// Posts a command and waits for its outcome. The loop thread needs the GIL to execute it, so the GIL is released
// meanwhile if the caller holds it.
Outcome post_and_wait(Command command) {
    Outcome outcome;
    State &host = state();
    // Once the queue is closed, Python may be finalized, and its functions must not be called.
    PyThreadState *const saved = host.is_open && holds_gil() ? PyEval_SaveThread() : nullptr;
    {
        std::unique_lock lock(host.mutex);
        const std::uint64_t instance = command.instance;
        if (host.is_open) {
            host.waiting[instance] = &outcome;
            const bool is_start = command.kind == Command::Kind::start;
            enqueue(std::move(command));
            const auto is_over = [&] { return outcome.is_done || !host.is_open; };
            while (is_start && !is_over()) {
                host.changed.wait_for(lock, cancel_check,
                                      [&] { return is_over() || !outcome.progress.empty(); });
                pass_on(lock, instance, outcome);
            }
            host.changed.wait(lock, is_over);
            host.waiting.erase(instance);
        }
        if (!outcome.is_done) {
            outcome.status = DYNAMO_ERROR_CLOSED;
            outcome.message = closed_message;
        }
    }
    if (saved != nullptr) {
        without_thread_exit([saved] { PyEval_RestoreThread(saved); });
    }
    return outcome;
}

std::uint64_t number_of(void *instance) {
    return reinterpret_cast<std::uintptr_t>(instance);
}

std::int32_t start(void *, const char *config_json, void **instance) {
    Command command{Command::Kind::start};
    {
        const std::lock_guard lock(state().mutex);
        command.instance = ++state().last_instance;
    }
    command.json = config_json;
    const std::uint64_t number = command.instance;
    Outcome outcome = post_and_wait(std::move(command));
    if (outcome.status == DYNAMO_ERROR_CLOSED) {
        block_while_exiting();
    }
    if (outcome.status < 0) {
        return dynamo_engine_error(outcome.status, outcome.message.c_str(),
                                   outcome.detail.empty() ? nullptr : outcome.detail.c_str());
    }
    {
        const std::lock_guard lock(state().mutex);
        state().descriptions[number] = std::move(outcome.detail);
    }
    *instance = reinterpret_cast<void *>(static_cast<std::uintptr_t>(number));
    return DYNAMO_OK;
}

std::int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                      const char *request_json) {
    if (frontend::client::send(number_of(instance), stream, request_id, request_json)) {
        return DYNAMO_OK;
    }
    return post({Command::Kind::generate, number_of(instance), stream, request_id, request_json});
}

// For requests that Dynamo's frontend does not answer.
bool hand_over(std::uint64_t instance, dynamo_stream_t *stream, const std::string &request_id,
               const std::string &body_json) {
    return try_post({Command::Kind::generate, instance, stream, request_id, body_json});
}

void fail_from_frontend(std::uint64_t instance, dynamo_stream_t *stream, int http_status,
                        std::string text) {
    if (!try_post({Command::Kind::frontend_error,
                   instance,
                   stream,
                   {},
                   std::to_string(http_status) + " " + text})) {
        dynamo_stream_fail(stream, DYNAMO_ERROR_CLOSED, closed_message, nullptr);
    }
}

std::int32_t generate_data(void *instance, dynamo_stream_t *stream, const char *request_id,
                           const dynamo_data_t *data) {
    return post({Command::Kind::generate_data, number_of(instance), stream, request_id,
                 std::string(static_cast<const char *>(data->bytes), data->length),
                 data->kind == DYNAMO_DATA_BYTES});
}

// The library has checked that the name consists of letters, digits and '_', and that the arguments are JSON.
std::int32_t call(void *instance, dynamo_stream_t *stream, const char *call_id, const char *name,
                  const char *arguments_json) {
    return post(
        {Command::Kind::call, number_of(instance), stream, call_id,
         std::string("{\"name\": \"") + name + "\", \"arguments\": " + arguments_json + "}"});
}

// Tells the engine about a stream: that it was cancelled, or that it is writable again.
template <Command::Kind kind>
void notify(void *instance, dynamo_stream_t *stream) {
    if (kind == Command::Kind::cancel ? !frontend::client::cancel(stream)
                                      : !frontend::client::resume(stream)) {
        try_post({kind, number_of(instance), stream});
    }
}

void stop(void *instance) {
    post_and_wait({Command::Kind::stop, number_of(instance)});
    frontend::client::remove_target(number_of(instance));
    const std::lock_guard lock(state().mutex);
    state().descriptions.erase(number_of(instance));
    state().metrics.erase(number_of(instance));
}

// A copy for each thread, because the loop thread may replace the description at any time.
constinit ThreadObject<std::string> described;

const char *describe(void *instance) {
    std::string *const text = described.get();
    if (text == nullptr) {
        return nullptr;
    }
    const std::lock_guard lock(state().mutex);
    const auto found = state().descriptions.find(number_of(instance));
    *text = found == state().descriptions.end() ? std::string() : found->second;
    return text->empty() ? nullptr : text->c_str();
}

void metrics(void *instance, void (*write)(void *, const char *), void *context) {
    std::string text;
    {
        const std::lock_guard lock(state().mutex);
        text = state().waits.text();
        if (const auto own = state().metrics.find(number_of(instance));
            own != state().metrics.end()) {
            text += own->second;
        }
    }
    if (const auto counts = frontend::client::counts(); counts.answered + counts.handed_over > 0) {
        const std::string name = "dynamo_llm_frontend_requests_total";
        text +=
            "# HELP " + name +
            " Requests that Dynamo's frontend answered without Python, or that Python took over "
            "from it; of the whole process.\n# TYPE " +
            name + " counter\n" + name + "{result=\"answered\"} " +
            std::to_string(counts.answered) + "\n" + name + "{result=\"handed_over\"} " +
            std::to_string(counts.handed_over) + "\n";
    }
    if (const std::uint64_t choices = text_stages::foreign_choices(); choices > 0) {
        const std::string name = "dynamo_llm_foreign_decoder_choices_total";
        text += "# HELP " + name +
                " Choices of answers that Python decodes with the library tokenizers, because "
                "their tokenizer's decoder is not known natively; of the whole process.\n# TYPE " +
                name + " counter\n" + name + " " + std::to_string(choices) + "\n";
    }
    write(context, text.c_str());
}

}  // namespace

bool holds_gil() noexcept {
    PyThreadState *const own = PyGILState_GetThisThreadState();
    return own != nullptr && own == _PyThreadState_UncheckedGet();
}

bool is_loop_thread() noexcept {
    return runs_loop && state().is_open;
}

std::int32_t check_wait(const char *call, std::int32_t hosted, char *why, std::size_t size) {
    if (!state().is_open) {
        return 0;  // no call waits for the loop any more, and Python may be finalized
    }
    if (runs_loop) {
        std::snprintf(
            why, size,
            "%s was called on the library's own loop, which runs the engines in Python and which "
            "it would hold up or wait for; in a coroutine: %s",
            call, asynchronous_form(call));
        return 1;
    }
    if (hosted != 0 && holds_gil()) {
        std::snprintf(
            why, size,
            "%s was called with Python's GIL held, which the engine needs to answer; release it "
            "around the call (Py_BEGIN_ALLOW_THREADS in C, nb::gil_scoped_release or "
            "py::gil_scoped_release in C++, ctypes.CDLL in place of ctypes.PyDLL)",
            call);
        return 1;
    }
    return 0;
}

std::int32_t register_engine() {
    dynamo_engine_t engine{};
    engine.struct_size = sizeof engine;
    engine.start = start;
    engine.generate = generate;
    engine.cancel = notify<Command::Kind::cancel>;
    engine.on_writable = notify<Command::Kind::writable>;
    engine.stop = stop;
    engine.describe = describe;
    engine.metrics = metrics;
    engine.generate_data = generate_data;
    engine.call = call;
    frontend::client::set_callbacks({hand_over, fail_from_frontend});
    return dynamo_engine_register("python", &engine, nullptr, nullptr);
}

void open(int wake_fd) {
    const std::lock_guard lock(state().mutex);
    state().wake_fd = wake_fd;
    state().is_open = true;
}

void enter_loop() {
    runs_loop = true;
}

std::vector<Command> take() {
    std::vector<Command> commands;
    const std::lock_guard lock(state().mutex);
    if (state().is_awake) {
        state().waits.add(std::chrono::steady_clock::now() - state().woken_at);
    }
    state().is_awake = false;
    commands.swap(state().commands);
    return commands;
}

void report_start(std::uint64_t instance, std::int32_t status, std::string message,
                  std::string detail) {
    const std::lock_guard lock(state().mutex);
    if (const auto found = state().waiting.find(instance); found != state().waiting.end()) {
        Outcome &outcome = *found->second;
        outcome.is_done = true;
        outcome.status = status;
        outcome.message = std::move(message);
        outcome.detail = std::move(detail);
        state().changed.notify_all();
    }
}

bool report_progress(std::uint64_t instance, std::string phase, std::uint64_t bytes_done,
                     std::uint64_t bytes_total, double fraction) {
    const std::lock_guard lock(state().mutex);
    const auto found = state().waiting.find(instance);
    if (found == state().waiting.end()) {
        return true;  // it has started
    }
    std::vector<Progress> &reports = found->second->progress;
    if (!reports.empty() && (reports.back().phase == phase || reports.size() == max_progress)) {
        reports.pop_back();
    }
    reports.push_back({std::move(phase), bytes_done, bytes_total, fraction});
    state().changed.notify_all();
    return !found->second->is_cancelled;
}

void report_stop(std::uint64_t instance) {
    report_start(instance, DYNAMO_OK, {}, {});
}

void report_description(std::uint64_t instance, std::string description) {
    const std::lock_guard lock(state().mutex);
    if (const auto found = state().descriptions.find(instance);
        found != state().descriptions.end()) {
        found->second = std::move(description);
    }
}

void report_metrics(std::uint64_t instance, std::string lines) {
    const std::lock_guard lock(state().mutex);
    if (state().descriptions.count(instance) > 0) {
        state().metrics[instance] = std::move(lines);
    }
}

void close(bool is_exiting) {
    {
        const std::lock_guard lock(state().mutex);
        state().is_open = false;
        state().changed.notify_all();
    }
    frontend::client::close(closed_message, is_exiting);
    router_calls::close();
}

void post_router_calls(std::uint64_t instance) {
    try_post({Command::Kind::router_calls, instance});
}

std::int32_t fail_closed() {
    block_while_exiting();
    return dynamo_engine_error(DYNAMO_ERROR_CLOSED, closed_message, nullptr);
}

void exit_within(int milliseconds) {
    State &host = state();
    std::unique_lock lock(host.mutex);
    host.is_exiting = true;
    host.exiting_thread = ::pthread_self();
    if (host.is_open) {
        enqueue({Command::Kind::exit});
        host.changed.wait_for(lock, std::chrono::milliseconds(milliseconds),
                              [&] { return host.has_exited; });
    }
}

void report_exit() {
    const std::lock_guard lock(state().mutex);
    state().has_exited = true;
    state().changed.notify_all();
}

void end_process_in(std::int64_t milliseconds, int code) {
    static std::atomic<std::uint64_t> last{0};
    const std::uint64_t own = ++last;
    if (milliseconds < 0) {
        return;
    }
    const auto wait_and_end = [=] {
        std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
        if (last != own) {
            return;
        }
        constexpr char why[] =
            "dynamo_llm: Python cannot end: C code of an engine holds the GIL and does not return; "
            "the process ends without it\n";
        [[maybe_unused]] const auto written = ::write(STDERR_FILENO, why, sizeof why - 1);
        ::_exit(code);
    };
    try {
        start_thread(wait_and_end);
    } catch (const std::exception &) {  // the system cannot start a thread: no time limit then
    }
}

}  // namespace dynamo::python::host
