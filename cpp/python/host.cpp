// SPDX-License-Identifier: Apache-2.0
#include <Python.h>

#include "python/host.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

#include <unistd.h>

#include "python/gil.hpp"

namespace dynamo::python::host {
namespace {

// How a start or a stop came out, for the thread that waits for it.
struct Outcome {
    bool is_done = false;
    std::int32_t status = DYNAMO_OK;
    std::string message;
    std::string detail;
};

// How long the loop thread took, from being woken until it had the GIL and took its commands, in
// buckets as Prometheus has them. Its waiting for the GIL is what makes it long.
class WaitTimes {
  public:
    void add(std::chrono::steady_clock::duration time) {
        const double seconds = std::chrono::duration<double>(time).count();
        sum_ += seconds;
        ++count_;
        for (std::size_t i = 0; i < bounds.size(); ++i) {
            buckets_[i] += static_cast<std::uint64_t>(seconds <= bounds[i].first);
        }
    }

    std::string text() const {
        std::string out =
            "# HELP dynamo_llm_python_wait_seconds From waking Python's loop thread until it has "
            "the "
            "GIL and takes what waits for it; of the whole process.\n"
            "# TYPE dynamo_llm_python_wait_seconds histogram\n";
        const std::string name = "dynamo_llm_python_wait_seconds";
        for (std::size_t i = 0; i < bounds.size(); ++i) {
            out += name + "_bucket{le=\"" + bounds[i].second + "\"} " +
                   std::to_string(buckets_[i]) + "\n";
        }
        out += name + "_bucket{le=\"+Inf\"} " + std::to_string(count_) + "\n";
        std::string sum = std::to_string(sum_);
        std::replace(sum.begin(), sum.end(), ',', '.');  // the host's locale
        return out + name + "_sum " + sum + "\n" + name + "_count " + std::to_string(count_) + "\n";
    }

  private:
    static constexpr std::array<std::pair<double, const char *>, 12> bounds = {{
        {0.00001, "1e-05"},
        {0.000025, "2.5e-05"},
        {0.00005, "5e-05"},
        {0.0001, "0.0001"},
        {0.00025, "0.00025"},
        {0.0005, "0.0005"},
        {0.001, "0.001"},
        {0.0025, "0.0025"},
        {0.005, "0.005"},
        {0.01, "0.01"},
        {0.1, "0.1"},
        {1, "1"},
    }};
    std::array<std::uint64_t, bounds.size()> buckets_{};
    std::uint64_t count_ = 0;
    double sum_ = 0;
};

struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Command> commands;
    int wake_fd = -1;
    bool is_awake = false;  // a wake was written and not yet answered by take()
    std::chrono::steady_clock::time_point woken_at;
    WaitTimes waits;
    bool is_open = false;
    bool has_exited = false;
    std::uint64_t last_instance = 0;
    std::map<std::uint64_t, Outcome *> waiting;
    std::map<std::uint64_t, std::string> descriptions;  // of running instances
};

// Leaked: callers may come while the process exits.
State &state() {
    static State *const instance = new State;
    return *instance;
}

constexpr const char *closed_message =
    "Python in this process is shutting down, and its engines with it";

// With the lock.
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

// From the outside a queue that is closed is an error and not a wait.
std::int32_t post(Command command) {
    const std::lock_guard lock(state().mutex);
    if (!state().is_open) {
        return dynamo_engine_error(DYNAMO_ERROR_CLOSED, closed_message, nullptr);
    }
    enqueue(std::move(command));
    return DYNAMO_OK;
}

// Posts a command and waits for its outcome. The loop thread needs the GIL for it, so a caller that
// holds the GIL gives it up meanwhile.
Outcome post_and_wait(Command command) {
    Outcome outcome;
    State &host = state();
    bool is_open;
    {
        const std::lock_guard lock(host.mutex);
        is_open = host.is_open;
    }
    // Once the queue is closed Python may be finalised, and nothing of it may be called.
    PyThreadState *const saved = is_open && holds_gil() ? PyEval_SaveThread() : nullptr;
    {
        std::unique_lock lock(host.mutex);
        const std::uint64_t instance = command.instance;
        if (host.is_open) {
            host.waiting[instance] = &outcome;
            enqueue(std::move(command));
            host.changed.wait(lock, [&] { return outcome.is_done || !host.is_open; });
            host.waiting.erase(instance);
        }
        if (!outcome.is_done) {
            outcome.status = DYNAMO_ERROR_CLOSED;
            outcome.message = closed_message;
        }
    }
    if (saved != nullptr) {
        to_the_end([saved] { PyEval_RestoreThread(saved); });
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
    return post({Command::Kind::generate, number_of(instance), stream, request_id, request_json});
}

std::int32_t generate_data(void *instance, dynamo_stream_t *stream, const char *request_id,
                           const dynamo_data_t *data) {
    return post({Command::Kind::generate_data, number_of(instance), stream, request_id,
                 std::string(static_cast<const char *>(data->bytes), data->length),
                 data->kind == DYNAMO_DATA_BYTES});
}

void cancel(void *instance, dynamo_stream_t *stream) {
    post({Command::Kind::cancel, number_of(instance), stream, {}, {}});
}

void space(void *instance, dynamo_stream_t *stream) {
    post({Command::Kind::space, number_of(instance), stream, {}, {}});
}

void stop(void *instance) {
    post_and_wait({Command::Kind::stop, number_of(instance), nullptr, {}, {}});
    const std::lock_guard lock(state().mutex);
    state().descriptions.erase(number_of(instance));
}

// The text is this thread's own: the loop thread may replace the description meanwhile.
const char *describe(void *instance) {
    thread_local std::string text;
    const std::lock_guard lock(state().mutex);
    const auto found = state().descriptions.find(number_of(instance));
    text = found == state().descriptions.end() ? std::string() : found->second;
    return text.empty() ? nullptr : text.c_str();
}

void metrics(void *, void (*write)(void *, const char *), void *context) {
    std::string text;
    {
        const std::lock_guard lock(state().mutex);
        text = state().waits.text();
    }
    write(context, text.c_str());
}

}  // namespace

bool holds_gil() noexcept {
    PyThreadState *const own = PyGILState_GetThisThreadState();
    return own != nullptr && own == _PyThreadState_UncheckedGet();
}

std::int32_t register_engine() {
    dynamo_engine_t engine{};
    engine.struct_size = sizeof engine;
    engine.start = start;
    engine.generate = generate;
    engine.cancel = cancel;
    engine.space = space;
    engine.stop = stop;
    engine.describe = describe;
    engine.metrics = metrics;
    engine.generate_data = generate_data;
    return dynamo_engine_register("python", &engine, nullptr, nullptr);
}

void open(int wake_fd) {
    const std::lock_guard lock(state().mutex);
    state().wake_fd = wake_fd;
    state().is_open = true;
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
        *found->second = {true, status, std::move(message), std::move(detail)};
        state().changed.notify_all();
    }
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

void close() {
    const std::lock_guard lock(state().mutex);
    state().is_open = false;
    state().changed.notify_all();
}

void exit_within(int milliseconds) {
    State &host = state();
    std::unique_lock lock(host.mutex);
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

}  // namespace dynamo::python::host
