// SPDX-License-Identifier: Apache-2.0
// The C functions of workers: commands to runtime/cluster/worker/engine.py of the Python package.
#include "dynamo_llm/worker.h"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/log.hpp"
#include "base/structs.hpp"
#include "services/handle_functions.hpp"
#include "services/service.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *logger = "dynamo_llm.worker";

// Load reports that have not been sent yet: the latest of each data parallel rank. Shared with the handlers of
// answers, because an answer may arrive after the worker was destroyed.
class Loads : public std::enable_shared_from_this<Loads> {
  public:
    explicit Loads(const Service &service) : service_(&service) {}

    void add(std::uint32_t data_parallel_rank, std::string load) {
        std::unique_lock lock(mutex_);
        waiting_[data_parallel_rank] = std::move(load);
        send_next();
        unlock_and_log(lock);
    }

    // Sends no more commands.
    void close() {
        const std::lock_guard lock(mutex_);
        service_ = nullptr;
    }

  private:
    void send_next() {  // requires mutex_
        if (is_busy_ || waiting_.empty() || service_ == nullptr) {
            return;
        }
        const auto first = waiting_.begin();
        const std::string command = "{\"load\":" + first->second + "}";
        waiting_.erase(first);
        is_busy_ = true;
        try {
            service_->post(command,
                           [loads = shared_from_this()](const Error *error, const std::string &) {
                               loads->on_answer(error);
                           });
        } catch (const Failure &failure) {
            is_busy_ = false;
            fail(failure.error());
        }
    }

    void on_answer(const Error *error) {
        std::unique_lock lock(mutex_);
        is_busy_ = false;
        if (error != nullptr) {
            fail(*error);
        } else {
            has_failed_ = false;
        }
        send_next();
        unlock_and_log(lock);
    }

    // Logs only the first of consecutive failures, because loads are reported often. Requires mutex_.
    void fail(const Error &error) {
        if (!std::exchange(has_failed_, true)) {
            unlogged_ = "the load could not be published: " + error.message;
        }
    }

    // Unlocks mutex_ before it logs a failure: the log callback may report a load itself, or wait for a lock whose
    // owner does.
    void unlock_and_log(std::unique_lock<std::mutex> &lock) {
        const std::string text = std::exchange(unlogged_, {});
        lock.unlock();
        if (!text.empty()) {
            log::write(DYNAMO_LOG_WARNING, logger, text.c_str());
        }
    }

    std::mutex mutex_;
    const Service *service_;  // nullptr once the worker is destroyed
    std::map<std::uint32_t, std::string> waiting_;
    bool is_busy_ = false;
    bool has_failed_ = false;
    std::string unlogged_;
};

struct Worker : Service {
    explicit Worker(const char *config_json)
        : Service("worker", "dynamo_llm.runtime.cluster.worker.engine:WorkerEngine", config_json),
          loads(std::make_shared<Loads>(*this)) {}
    ~Worker() { loads->close(); }

    const std::shared_ptr<Loads> loads;
};

}  // namespace

template <>
struct HandleTraits<Worker> {
    using CType = dynamo_worker_t;
    static constexpr HandleKind kind = HandleKind::worker;
};

}  // namespace dynamo

using namespace dynamo;
using capi::status_of;

dynamo_worker_t *dynamo_worker_create(const char *config_json) {
    return services::create<Worker>(config_json);
}

void dynamo_worker_destroy(dynamo_worker_t *worker) {
    status_of([&] {
        if (worker == nullptr) {
            return DYNAMO_OK;
        }
        const HandleRef<Worker> held(worker);
        if (!close_handle<Worker>(worker)) {
            const HandleRef<Worker> reject_stale(worker);
        }
        // Otherwise a thread waiting for the worker to stop would keep it alive.
        held->post("{\"shutdown\":0}", [](const Error *error, const std::string &) {
            // CLOSED is not a failure: an engine that is stopped before it reads the command shuts down as well.
            if (error != nullptr && error->status != DYNAMO_ERROR_CLOSED) {
                log::write(DYNAMO_LOG_WARNING, logger, error->message.c_str());
            }
        });
        return DYNAMO_OK;
    });
}

char *dynamo_worker_info(dynamo_worker_t *worker) {
    return services::text_of([&] { return HandleRef<Worker>(worker)->call("info", nullptr); });
}

int32_t dynamo_worker_shutdown(dynamo_worker_t *worker, int64_t timeout_ms) {
    return status_of([&] {
        const HandleRef<Worker> held(worker);
        capi::timeout(timeout_ms);
        const Json answer = json::parse(held->call("shutdown", timeout_ms), "answer");
        if (const auto cancelled = answer.at("cancelled").get<std::uint64_t>(); cancelled > 0) {
            const std::string waited = std::to_string(timeout_ms);
            throw Failure({.status = DYNAMO_ERROR_DEADLINE_EXCEEDED,
                           .message = std::to_string(cancelled) +
                                      " request(s) had not ended after " + waited +
                                      " ms and were cancelled",
                           .detail = "{\"timeout_ms\": " + waited + "}"});
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_worker_wait(dynamo_worker_t *worker, int64_t timeout_ms) {
    return status_of([&] {
        const HandleRef<Worker> held(worker);
        capi::timeout(timeout_ms);
        const Json answer = json::parse(held->call("wait", timeout_ms), "answer");
        return answer.at("stopped").get<bool>() ? DYNAMO_END : DYNAMO_PENDING;
    });
}

int32_t dynamo_worker_publish_load(dynamo_worker_t *worker, const dynamo_worker_load_t *load) {
    return status_of([&] {
        const HandleRef<Worker> held(worker);
        const dynamo_worker_load_t given = structs::read(load, "load");
        Json object = {{"data_parallel_rank", given.data_parallel_rank}};
        const auto add = [&](const char *key, std::int64_t value) {
            if (value < -1) {
                throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                              std::string("load->") + key + " is " + std::to_string(value) +
                                  "; it is a number of blocks, or -1 if that is not known");
            }
            if (value >= 0) {
                object[key] = value;
            }
        };
        add("active_decode_blocks", given.active_decode_blocks);
        add("kv_used_blocks", given.kv_used_blocks);
        held->loads->add(given.data_parallel_rank, json::dump(object));
        return DYNAMO_OK;
    });
}
