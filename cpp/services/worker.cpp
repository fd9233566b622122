// SPDX-License-Identifier: Apache-2.0
#include "services/worker.hpp"

#include <array>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.hpp"
#include "base/schema.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class = "dynamo_llm.runtime.cluster.worker.engine:WorkerEngine";
constexpr const char *logger = "dynamo_llm.worker";

// The code that uses the objects checks their members.
constexpr std::array config_keys = {
    or_null({"cluster", Type::object, ""}), Key{"endpoint", Type::string, ""},
    Key{"runtime", Type::object, ""},       or_null({"model", Type::object, ""}),
    or_null({"health", Type::object, ""}),  Key{"drain_ms", Type::integer, "", -1, 1e12},
    Key{"python", Type::object, ""},
};

}  // namespace

// Load reports that have not been sent yet: the latest of each data parallel rank. Shared with the handlers of
// answers, because an answer may arrive after the worker was destroyed.
struct Worker::Loads : std::enable_shared_from_this<Loads> {
    explicit Loads(const Service &of) : service(&of) {}

    void send_next() {  // requires `mutex`
        if (is_busy || waiting.empty() || service == nullptr) {
            return;
        }
        const auto first = waiting.begin();
        const std::string command = "{\"load\":" + first->second + "}";
        waiting.erase(first);
        is_busy = true;
        try {
            service->post(command,
                          [loads = shared_from_this()](const Error *error, const std::string &) {
                              std::unique_lock lock(loads->mutex);
                              loads->is_busy = false;
                              if (error != nullptr) {
                                  loads->fail(*error);
                              } else {
                                  loads->has_failed = false;
                              }
                              loads->send_next();
                              loads->say(lock);
                          });
        } catch (const Failure &failure) {
            is_busy = false;
            fail(failure.error());
        }
    }

    // Logs only the first of consecutive failures, because loads are reported often.
    void fail(const Error &error) {
        if (!std::exchange(has_failed, true)) {
            unsaid = "the load could not be published: " + error.message;
        }
    }

    // Unlocks `mutex`, and then logs the failure: the log callback may report a load itself, or wait for a lock
    // whose owner does.
    void say(std::unique_lock<std::mutex> &lock) {
        const std::string text = std::exchange(unsaid, {});
        lock.unlock();
        if (!text.empty()) {
            log::write(DYNAMO_LOG_WARNING, logger, text.c_str());
        }
    }

    std::mutex mutex;
    const Service *service;  // nullptr once the worker is destroyed
    std::map<std::uint32_t, std::string> waiting;
    bool is_busy = false;
    bool has_failed = false;
    std::string unsaid;
};

RuntimeConfig Worker::parse_config(std::string_view text) {
    const Json object =
        json::parse_object(json::without_bom(text), "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    for (const char *key : {"endpoint", "runtime"}) {
        if (!object.contains(key)) {
            throw Failure(DYNAMO_ERROR_INVALID_CONFIG,
                          std::string("\"") + key + "\" of the configuration is missing");
        }
    }
    return Service::configure(engine_class, "configuration", text);
}

Worker::Worker(const RuntimeConfig &config)
    : service_(std::make_unique<Service>("worker", config)),
      loads_(std::make_shared<Loads>(*service_)) {}

Worker::~Worker() {
    const std::lock_guard lock(loads_->mutex);
    loads_->service = nullptr;
}

std::string Worker::info() const {
    return service_->call("{\"info\":null}");
}

std::uint64_t Worker::shutdown(std::int64_t timeout_ms) const {
    const Json answer =
        json::parse(service_->call("{\"shutdown\":" + std::to_string(timeout_ms) + "}"), "answer");
    return answer.at("cancelled").get<std::uint64_t>();
}

bool Worker::wait(std::int64_t timeout_ms) const {
    const Json answer =
        json::parse(service_->call("{\"wait\":" + std::to_string(timeout_ms) + "}"), "answer");
    return answer.at("stopped").get<bool>();
}

void Worker::publish_load(const dynamo_worker_load_t &load) {
    Json object = {{"data_parallel_rank", load.data_parallel_rank}};
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
    add("active_decode_blocks", load.active_decode_blocks);
    add("kv_used_blocks", load.kv_used_blocks);
    std::unique_lock lock(loads_->mutex);
    loads_->waiting[load.data_parallel_rank] = json::dump(object);
    loads_->send_next();
    loads_->say(lock);
}

void Worker::abandon() {
    service_->post("{\"shutdown\":0}", [](const Error *error, const std::string &) {
        // CLOSED is not a failure: an engine that is stopped before it reads the command shuts down as well.
        if (error != nullptr && error->status != DYNAMO_ERROR_CLOSED) {
            log::write(DYNAMO_LOG_WARNING, logger, error->message.c_str());
        }
    });
}

}  // namespace dynamo
