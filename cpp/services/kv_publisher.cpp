// SPDX-License-Identifier: Apache-2.0
#include "services/kv_publisher.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.hpp"
#include "base/schema.hpp"
#include "base/utf8.hpp"
#include "stream/dispatcher.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class =
    "dynamo_llm.runtime.cluster.worker.kv_publisher:KvPublisherEngine";
constexpr const char *what = "kv_publisher";
constexpr std::uint64_t default_bound = 65536;
// Bounds the size of a command: the asyncio event loop parses it, which delays everything else on the loop.
constexpr std::uint64_t blocks_of_command = 2048;

constexpr std::array config_keys = {
    Key{"endpoint", Type::string, ""},
    Key{"kv_block_size", Type::integer, "", 1, 1 << 20},
    or_null({"cluster", Type::object, ""}),
    Key{"data_parallel_rank", Type::integer, "", 0, 1 << 20},
    or_null({"worker_id", Type::integer, "", 0}),
    Key{"enable_local_indexer", Type::boolean, ""},
    Key{"queue_blocks", Type::integer, "", 1, 1e9},
    or_null({"batching_timeout_ms", Type::integer, "", 0, 1e6}),
    or_null({"zmq_endpoint", Type::string, ""}),
    or_null({"zmq_topic", Type::string, ""}),
    Key{"python", Type::object, ""},
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
}

template <class Number>
void append_numbers(std::string &text, std::span<const Number> numbers) {
    char digits[20];
    text += '[';
    for (const Number number : numbers) {
        text.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
        text += ',';
    }
    if (!numbers.empty()) {
        text.pop_back();
    }
    text += ']';
}

void append_text(std::string &text, const char *key, const char *value) {
    if (value == nullptr) {
        return;
    }
    if (invalid_utf8_at(value) != std::string_view::npos) {
        reject(std::string(key) + " is not UTF-8");
    }
    text += std::string(",\"") + key + "\":" + json::dump(Json(value));
}

// Returns how many blocks the worker has, as reported in the answer to a command; `before` if it is missing.
std::uint64_t stored_of(const std::string &answer, std::uint64_t before) noexcept {
    try {
        return json::parse_object(answer, "answer", DYNAMO_ERROR_ENGINE_FAILED)
            .value("stored", before);
    } catch (const std::exception &) {
        return before;
    }
}

void begin_event(KvEvents &events) {
    if (events.events++ > 0) {
        events.json += ',';
    }
}

}  // namespace

// State shared by publishing threads and the handlers of answers. An answer may arrive after the publisher was
// destroyed.
struct KvPublisher::Queue : std::enable_shared_from_this<Queue> {
    Queue(const Service &service, std::uint64_t bound) : service(&service), bound(bound) {}

    // All require `mutex`.
    void send_next();
    void fail(const Error &error, std::uint64_t events);
    // Unlocks `mutex`, and then logs the failure: the log callback may call the publisher, or wait for a lock
    // whose owner calls the publisher.
    void say(std::unique_lock<std::mutex> &lock);

    mutable std::mutex mutex;
    std::condition_variable idle;
    const Service *service;  // nullptr once the publisher is destroyed
    const std::uint64_t bound;
    std::deque<KvEvents> waiting;
    bool is_busy = false;
    std::uint64_t queued_events = 0;
    std::uint64_t queued_blocks = 0;
    std::uint64_t published = 0;
    std::uint64_t failed = 0;
    std::uint64_t stored = 0;
    std::optional<Error> failure;
    std::string unsaid;
};

void KvPublisher::Queue::send_next() {
    while (!is_busy && !waiting.empty() && service != nullptr) {
        const KvEvents next = std::move(waiting.front());
        waiting.pop_front();
        const auto done = [queue = shared_from_this(), events = next.events, blocks = next.blocks](
                              const Error *error, const std::string &answer) {
            std::unique_lock lock(queue->mutex);
            queue->queued_events -= events;
            queue->queued_blocks -= blocks;
            if (error != nullptr) {
                queue->fail(*error, events);
            } else {
                queue->published += events;
                queue->stored = stored_of(answer, queue->stored);
            }
            // Logs before flush() returns: its caller may then remove the log callback.
            queue->say(lock);
            lock.lock();
            queue->is_busy = false;
            queue->send_next();
            if (!queue->is_busy) {
                queue->idle.notify_all();
            }
            queue->say(lock);
        };
        is_busy = true;
        try {
            service->post("{\"publish\":[" + next.json + "]}", done);
        } catch (const Failure &error) {
            is_busy = false;
            queued_events -= next.events;
            queued_blocks -= next.blocks;
            fail(error.error(), next.events);
        }
    }
}

void KvPublisher::Queue::fail(const Error &error, std::uint64_t events) {
    failed += events;
    if (!failure.has_value()) {
        failure = error;
        unsaid = "KV events could not be published: " + error.message;
    }
}

void KvPublisher::Queue::say(std::unique_lock<std::mutex> &lock) {
    const std::string text = std::exchange(unsaid, {});
    lock.unlock();
    if (!text.empty()) {
        log::write(DYNAMO_LOG_WARNING, "dynamo_llm.kv_publisher", text.c_str());
    }
}

RuntimeConfig KvPublisher::parse_config(std::string_view text) {
    Json object =
        json::parse_object(json::without_bom(text), "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    return Service::configure(engine_class, "configuration", text);
}

KvPublisher::KvPublisher(const RuntimeConfig &config) {
    Json options = json::parse_object(config.models.front().text, "configuration",
                                      DYNAMO_ERROR_INVALID_CONFIG);
    const std::uint64_t bound = options["options"].value("queue_blocks", default_bound);
    service_ = std::make_unique<Service>(what, config);
    const json::OrderedJson info = service_->info();
    block_size_ = info.at("kv_block_size").get<std::uint32_t>();
    relays_ = info.at("relays").get<bool>();
    queue_ = std::make_shared<Queue>(*service_, bound);
}

KvPublisher::~KvPublisher() {
    const std::lock_guard lock(queue_->mutex);
    queue_->service = nullptr;  // a late answer then sends no further command
}

std::string KvPublisher::info() const {
    return service_->call("{\"info\":null}");
}

void KvPublisher::add_stored(KvEvents &events, const dynamo_kv_stored_t &stored) const {
    const std::uint32_t size = stored.tokens_per_block == 0 ? block_size_ : stored.tokens_per_block;
    if (size != block_size_) {
        reject("stored->tokens_per_block is " + std::to_string(size) +
               ", but the publisher's \"kv_block_size\" is " + std::to_string(block_size_));
    }
    if (stored.block_count == 0) {
        reject("stored->block_count is 0");
    }
    if (stored.token_count / size != stored.block_count || stored.token_count % size != 0) {
        reject("stored->token_count must be " + std::to_string(stored.block_count) + " blocks of " +
               std::to_string(size) + " tokens, not " + std::to_string(stored.token_count));
    }
    if (stored.has_parent != 0 && stored.has_parent != 1) {
        reject("stored->has_parent must be 0 or 1, not " + std::to_string(stored.has_parent));
    }
    std::string text = "{\"stored\":{\"token_ids\":";
    append_numbers(text, std::span(stored.token_ids, stored.token_count));
    text += ",\"block_hashes\":";
    append_numbers(text, std::span(stored.block_hashes, stored.block_count));
    if (stored.has_parent == 1) {
        text += ",\"parent_hash\":" + std::to_string(stored.parent_hash);
    }
    append_text(text, "lora_name", stored.lora_name);
    append_text(text, "cache_salt", stored.cache_salt);
    begin_event(events);
    events.json += text + "}}";
    events.blocks += stored.block_count;
}

void KvPublisher::add_removed(KvEvents &events, std::span<const std::uint64_t> hashes) {
    begin_event(events);
    events.json += "{\"removed\":";
    append_numbers(events.json, hashes);
    events.json += '}';
    // Counts an event without blocks as one block. Otherwise the queue, which is bounded in blocks, would accept
    // any number of these events.
    events.blocks += std::max<std::size_t>(1, hashes.size());
}

void KvPublisher::add_cleared(KvEvents &events) {
    begin_event(events);
    events.json += "{\"cleared\":true}";
    events.blocks += 1;
}

bool KvPublisher::publish(KvEvents events) {
    if (relays_) {
        throw Failure(
            DYNAMO_ERROR_INVALID_STATE,
            "the publisher passes on the events of its \"zmq_endpoint\" and takes no others");
    }
    if (events.events == 0) {
        return true;
    }
    std::unique_lock lock(queue_->mutex);
    // Events larger than the whole queue are accepted when the queue is empty.
    if (queue_->queued_blocks > 0 && queue_->queued_blocks + events.blocks > queue_->bound) {
        return false;
    }
    queue_->queued_events += events.events;
    queue_->queued_blocks += events.blocks;
    std::deque<KvEvents> &waiting = queue_->waiting;
    if (!waiting.empty() && waiting.back().blocks + events.blocks <= blocks_of_command) {
        waiting.back().json += ',' + events.json;
        waiting.back().events += events.events;
        waiting.back().blocks += events.blocks;
    } else {
        waiting.push_back(std::move(events));
    }
    queue_->send_next();
    queue_->say(lock);
    return true;
}

bool KvPublisher::flush(std::optional<Clock::time_point> deadline) {
    std::unique_lock lock(queue_->mutex);
    const auto is_idle = [&] { return !queue_->is_busy && queue_->waiting.empty(); };
    if (!is_idle() && (!deadline.has_value() || *deadline > Clock::now())) {
        service_->require_may_wait();
        if (dispatcher::is_this_thread()) {  // the thread that delivers the answers
            throw Failure(
                DYNAMO_ERROR_INVALID_STATE,
                "dynamo_kv_publisher_flush() was called in a callback, whose thread it would "
                "wait for; call it in another thread");
        }
    }
    if (!deadline.has_value()) {
        queue_->idle.wait(lock, is_idle);
    } else if (!queue_->idle.wait_until(lock, *deadline, is_idle)) {
        return false;
    }
    if (queue_->failure.has_value()) {
        Error error = *std::exchange(queue_->failure, std::nullopt);
        throw Failure(std::move(error));
    }
    return true;
}

std::string KvPublisher::statistics() const {
    const std::lock_guard lock(queue_->mutex);
    return json::dump(json::OrderedJson{{"published_events", queue_->published},
                                        {"queued_events", queue_->queued_events},
                                        {"queued_blocks", queue_->queued_blocks},
                                        {"failed_events", queue_->failed},
                                        {"stored_blocks", queue_->stored}});
}

std::vector<std::uint64_t> KvPublisher::hashes(std::span<const std::uint32_t> tokens,
                                               const char *lora_name,
                                               const char *cache_salt) const {
    std::string command = "{\"hashes\":{\"token_ids\":";
    append_numbers(command, tokens);
    append_text(command, "lora_name", lora_name);
    append_text(command, "cache_salt", cache_salt);
    const Json answer = json::parse(service_->call(command + "}}"), "answer");
    return answer.at("hashes").get<std::vector<std::uint64_t>>();
}

}  // namespace dynamo
