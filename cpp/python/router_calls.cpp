// SPDX-License-Identifier: Apache-2.0
#include "python/router_calls.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread_object.hpp"
#include "python/bindings.hpp"
#include "python/host.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dynamo::python {
namespace router_calls {
namespace {

std::optional<std::string> copied(const char *text) {
    return text == nullptr ? std::nullopt : std::optional<std::string>(text);
}

struct Answer {
    std::int32_t status = DYNAMO_OK;
    std::string message = {};
    std::string detail = {};  // JSON of an error, or ""
    dynamo_selection_t selection{};
    std::optional<std::string> address = {};
    std::optional<std::string> prefill_address = {};
};

// A call that waits for its answer. Has copies of the caller's arguments, because close() may end the call while the
// loop thread reads them.
struct Call {
    explicit Call(const dynamo_router_call &given)
        : function(given.function),
          decay(given.decay),
          request_id(copied(given.request_id)),
          token_ids(given.token_ids, given.token_ids + given.token_count),
          selection(given.selection),
          phase(given.options.phase),
          strict_priority(given.options.strict_priority),
          worker_ids(given.options.worker_ids,
                     given.options.worker_ids + given.options.worker_count),
          lora_name(copied(given.options.lora_name)),
          cache_salt(copied(given.options.cache_salt)),
          constraints(copied(given.options.constraints_json)),
          priority_jump(given.options.priority_jump),
          expected_output_tokens(given.options.expected_output_tokens) {}

    void end(Answer with) {
        {
            const std::lock_guard lock(mutex);
            answer = std::move(with);
        }
        answered.notify_one();
    }

    Answer wait() {
        std::unique_lock lock(mutex);
        answered.wait(lock, [this] { return answer.has_value(); });
        return std::move(*answer);
    }

    const std::int32_t function;
    const double decay;
    const std::optional<std::string> request_id;
    const std::vector<std::uint32_t> token_ids;
    const dynamo_selection_t selection;
    const std::int32_t phase;
    const std::uint32_t strict_priority;
    const std::vector<std::uint64_t> worker_ids;
    const std::optional<std::string> lora_name;
    const std::optional<std::string> cache_salt;
    const std::optional<std::string> constraints;
    const double priority_jump;
    const std::uint64_t expected_output_tokens;

    std::mutex mutex;
    std::condition_variable answered;
    std::optional<Answer> answer;
};

using Batch = std::vector<std::pair<std::uint64_t, std::shared_ptr<Call>>>;

struct State {
    std::mutex mutex;
    bool is_closed = false;
    std::uint64_t last_id = 0;
    std::map<std::uint64_t, Batch> batches;                            // not taken yet, by router
    std::unordered_map<std::uint64_t, std::shared_ptr<Call>> waiting;  // not answered yet, by id
};

// Leaked, because callers may use it while the process exits.
State &state() {
    static State *const instance = new State;
    return *instance;
}

// Adds a call. Returns false once the calls are closed.
bool add(const std::shared_ptr<Call> &call, std::uint64_t router) {
    bool is_first;
    {
        const std::lock_guard lock(state().mutex);
        if (state().is_closed) {
            return false;
        }
        const std::uint64_t id = ++state().last_id;
        Batch &batch = state().batches[router];
        is_first = batch.empty();
        batch.emplace_back(id, call);
        try {
            state().waiting.emplace(id, call);
        } catch (...) {
            batch.pop_back();
            throw;
        }
    }
    if (is_first) {
        host::post_router_calls(
            router);  // if the queue of commands is closed, close() is about to be called
    }
    return true;
}

// Removes a call from those that wait. Returns nullptr if it was closed. Requires the state's mutex.
std::shared_ptr<Call> remove(std::uint64_t id) {
    const auto found = state().waiting.find(id);
    if (found == state().waiting.end()) {
        return nullptr;
    }
    const std::shared_ptr<Call> call = std::move(found->second);
    state().waiting.erase(found);
    return call;
}

void end(std::uint64_t id, Answer answer) {
    std::shared_ptr<Call> call;
    {
        const std::lock_guard lock(state().mutex);
        call = remove(id);
    }
    if (call != nullptr) {
        call->end(std::move(answer));
    }
}

// The addresses of the thread's last selection.
struct Addresses {
    std::optional<std::string> address;
    std::optional<std::string> prefill_address;
};
constinit ThreadObject<Addresses> addresses;

// ------------------------------------------------------------------------- The loop thread

nb::object list_of(const std::vector<std::uint32_t> &numbers) {
    nb::object list = nb::steal(PyList_New(static_cast<Py_ssize_t>(numbers.size())));
    if (!list.is_valid()) {
        nb::raise_python_error();
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        PyObject *const number = PyLong_FromUnsignedLong(numbers[i]);
        if (number == nullptr) {
            nb::raise_python_error();
        }
        PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), number);
    }
    return list;
}

// Returns the keys of a command of runtime/cluster/router/engine.py; None if all options have their defaults.
nb::object options_of(const Call &call) {
    nb::object result = nb::none();
    const auto put = [&](const char *key, auto value) {
        if (result.is_none()) {
            result = nb::dict();
        }
        nb::borrow<nb::dict>(result)[key] = std::move(value);
    };
    if (call.phase != DYNAMO_ROUTE_ALL) {
        put("phase", nb::str(call.phase == DYNAMO_ROUTE_PREFILL ? "prefill" : "decode"));
    }
    for (const auto &[key, text] :
         {std::pair("lora_name", &call.lora_name), std::pair("cache_salt", &call.cache_salt),
          std::pair("constraints", &call.constraints)}) {
        if (*text) {
            put(key, nb::str((*text)->data(), (*text)->size()));
        }
    }
    if (!call.worker_ids.empty()) {
        nb::list ids;
        for (const std::uint64_t id : call.worker_ids) {
            ids.append(id);
        }
        put("worker_ids", std::move(ids));
    }
    if (call.strict_priority > 0) {
        put("strict_priority", nb::int_(call.strict_priority));
    }
    if (call.priority_jump > 0) {
        put("priority_jump", nb::float_(call.priority_jump));
    }
    if (call.expected_output_tokens > 0) {
        put("expected_output_tokens", nb::int_(call.expected_output_tokens));
    }
    return result;
}

nb::object worker_of(std::int32_t has_worker, std::uint64_t id, std::uint32_t rank) {
    return has_worker == 0 ? nb::none() : nb::object(nb::make_tuple(id, rank));
}

nb::object arguments_of(const Call &call) {
    switch (call.function) {
        case DYNAMO_ROUTER_SELECT:
            return nb::make_tuple(list_of(call.token_ids), options_of(call));
        case DYNAMO_ROUTER_RESERVE: {
            const dynamo_selection_t &given = call.selection;
            return nb::make_tuple(
                list_of(call.token_ids), options_of(call),
                worker_of(given.has_worker, given.worker_id, given.data_parallel_rank),
                worker_of(given.has_prefill_worker, given.prefill_worker_id,
                          given.prefill_data_parallel_rank));
        }
        case DYNAMO_ROUTER_OUTPUT_BLOCK:
            return nb::make_tuple(call.decay);
        default:
            return nb::make_tuple();
    }
}

nb::list take(std::uint64_t router) {
    Batch batch;
    {
        const std::lock_guard lock(state().mutex);
        if (auto node = state().batches.extract(router)) {
            batch = std::move(node.mapped());
        }
    }
    try {
        nb::list calls;
        for (const auto &[id, call] : batch) {
            calls.append(nb::make_tuple(id, call->function, call->request_id, arguments_of(*call)));
        }
        return calls;
    } catch (...) {  // no memory
        for (const auto &[id, call] : batch) {
            end(id, {.status = DYNAMO_ERROR_OUT_OF_MEMORY});
        }
        throw;
    }
}

using Worker = std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::optional<std::string>>;
using Answered = std::tuple<std::uint64_t, std::optional<Worker>, std::optional<Worker>>;

Answer answer_of(std::optional<Worker> worker, std::optional<Worker> prefill) {
    Answer answer;
    dynamo_selection_t &selection = answer.selection;
    if (worker) {
        selection.has_worker = 1;
        std::tie(selection.worker_id, selection.data_parallel_rank, selection.overlap_blocks,
                 answer.address) = std::move(*worker);
    }
    if (prefill) {
        selection.has_prefill_worker = 1;
        std::tie(selection.prefill_worker_id, selection.prefill_data_parallel_rank,
                 selection.prefill_overlap_blocks, answer.prefill_address) = std::move(*prefill);
    }
    return answer;
}

void answer_all(std::vector<Answered> answers) {
    std::vector<std::shared_ptr<Call>> calls;
    calls.reserve(answers.size());
    {
        const std::lock_guard lock(state().mutex);
        for (const Answered &answered : answers) {
            calls.push_back(remove(std::get<0>(answered)));
        }
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
        if (calls[i] != nullptr) {
            auto &[id, worker, prefill] = answers[i];
            calls[i]->end(answer_of(std::move(worker), std::move(prefill)));
        }
    }
}

}  // namespace

std::int32_t call(void *instance, const dynamo_router_call *given, dynamo_selection_t *selection) {
    try {
        const auto call = std::make_shared<Call>(*given);
        if (!add(call, reinterpret_cast<std::uintptr_t>(instance))) {
            return host::fail_closed();
        }
        Answer answer = call->wait();
        if (answer.status == DYNAMO_ERROR_CLOSED && answer.message.empty()) {
            return host::fail_closed();
        }
        if (answer.status < 0) {
            return dynamo_engine_error(answer.status, answer.message.c_str(),
                                       answer.detail.empty() ? nullptr : answer.detail.c_str());
        }
        Addresses *const kept = addresses.get();
        if (kept == nullptr) {
            throw std::bad_alloc();
        }
        kept->address = std::move(answer.address);
        kept->prefill_address = std::move(answer.prefill_address);
        const std::size_t size = selection->struct_size;
        *selection = answer.selection;
        selection->struct_size = size;
        selection->address = kept->address ? kept->address->c_str() : nullptr;
        selection->prefill_address =
            kept->prefill_address ? kept->prefill_address->c_str() : nullptr;
        return DYNAMO_OK;
    } catch (const std::bad_alloc &) {
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "out of memory", nullptr);
    }
}

void close() noexcept {
    std::unordered_map<std::uint64_t, std::shared_ptr<Call>> ended;
    {
        const std::lock_guard lock(state().mutex);
        state().is_closed = true;
        ended.swap(state().waiting);
        state().batches.clear();
    }
    for (const auto &[id, call] : ended) {
        call->end({.status = DYNAMO_ERROR_CLOSED});
    }
}

}  // namespace router_calls

void bind_router_calls(nb::module_ &m) {
    m.def(
        "router_take", &router_calls::take, "router"_a,
        nb::sig("def router_take(router: int) -> list[tuple[int, int, str | None, tuple[object, "
                "...]]]"),
        "Returns the calls of a router since the last call: (id, function, request_id, arguments). "
        "The arguments of a selection are its token ids and options; those of a reservation also "
        "two workers; that of an output block is its decay.");
    m.def("router_answer", &router_calls::answer_all, "answers"_a,
          // The callers run at once, which must not keep Dynamo's threads from the GIL.
          without_gil,
          "Ends calls of routers: (id, worker, prefill worker). A worker is (id, data parallel "
          "rank, overlap in blocks, address).");
    m.def(
        "router_fail",
        [](std::uint64_t id, std::int32_t status, std::string message, std::string detail) {
            router_calls::end(
                id, {.status = status, .message = std::move(message), .detail = std::move(detail)});
        },
        "id"_a, "status"_a, "message"_a, "detail"_a, "Ends a call of a router with an error.");
}

}  // namespace dynamo::python
