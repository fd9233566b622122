// SPDX-License-Identifier: Apache-2.0
#include "core/worker.hpp"

#include <array>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/log.hpp"
#include "core/schema.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class = "dynamo_llm.runtime.cluster.worker:WorkerEngine";
constexpr const char *logger = "dynamo_llm.worker";

// What is in the objects is checked by who uses them.
constexpr std::array config_keys = {
    or_null({"cluster", Type::object, ""}), Key{"endpoint", Type::string, ""},
    Key{"runtime", Type::object, ""},       or_null({"model", Type::object, ""}),
    or_null({"health", Type::object, ""}),  Key{"drain_ms", Type::integer, "", -1, 1e12},
    Key{"python", Type::object, ""},
};

}  // namespace

// What is reported and has not been sent yet: of each rank the latest. Shared with the answers to
// commands, which may come after the worker has gone.
struct Worker::Loads : std::enable_shared_from_this<Loads> {
    explicit Loads(const Service &of) : service(&of) {}

    void send_next() {  // with the mutex locked
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

    // Once for each time that it goes wrong: it is reported often.
    void fail(const Error &error) {
        if (!std::exchange(has_failed, true)) {
            unsaid = "the load could not be published: " + error.message;
        }
    }

    // Unlocks the mutex, and logs what failed. The receiver of logs may report a load itself, or wait for
    // a lock of somebody who does.
    void say(std::unique_lock<std::mutex> &lock) {
        const std::string text = std::exchange(unsaid, {});
        lock.unlock();
        if (!text.empty()) {
            log::write(DYNAMO_LOG_WARNING, logger, text.c_str());
        }
    }

    std::mutex mutex;
    const Service *service;  // nullptr once the worker has gone
    std::map<std::uint32_t, std::string> waiting;
    bool is_busy = false;
    bool has_failed = false;
    std::string unsaid;
};

Config Worker::parse_config(std::string_view text) {
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

Worker::Worker(const Config &config)
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
        Json::parse(service_->call("{\"shutdown\":" + std::to_string(timeout_ms) + "}"));
    return answer.at("cancelled").get<std::uint64_t>();
}

bool Worker::wait(std::int64_t timeout_ms) const {
    const Json answer =
        Json::parse(service_->call("{\"wait\":" + std::to_string(timeout_ms) + "}"));
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
        // An engine that is stopped before it reads this does the same.
        if (error != nullptr && error->status != DYNAMO_ERROR_CLOSED) {
            log::write(DYNAMO_LOG_WARNING, logger, error->message.c_str());
        }
    });
}

}  // namespace dynamo
