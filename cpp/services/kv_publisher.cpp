// SPDX-License-Identifier: Apache-2.0
// The C functions of KV publishers: commands to runtime/cluster/worker/kv_publisher.py of the Python package.
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/structs.hpp"
#include "base/wait_check.hpp"
#include "dynamo_llm/kv_events.h"
#include "services/handle_functions.hpp"
#include "services/kv_event_queue.hpp"
#include "services/service.hpp"

namespace dynamo {
namespace {

using json::Json;

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
    if (value != nullptr) {
        text += std::string(",\"") + key + "\":" + json::dump(Json(capi::utf8(value, key)));
    }
}

class KvPublisher : public Service {
  public:
    explicit KvPublisher(const char *config_json)
        : Service("kv_publisher",
                  "dynamo_llm.runtime.cluster.worker.kv_publisher:KvPublisherEngine", config_json) {
        const json::OrderedJson engine = description();
        engine.at("kv_block_size").get_to(block_size_);
        engine.at("relays").get_to(relays_);
        queue =
            std::make_shared<KvEventQueue>(*this, engine.at("queue_blocks").get<std::uint64_t>());
    }
    ~KvPublisher() { queue->close(); }

    // Each appends an event. Throws Failure with INVALID_ARGUMENT.
    void add(KvEvents &events, const dynamo_kv_event_t &event) const;
    void add_stored(KvEvents &events, const dynamo_kv_stored_t *given) const;
    static void add_removed(KvEvents &events, const std::uint64_t *given, std::size_t count,
                            const char *name);
    static void add_cleared(KvEvents &events) { events.append({"{\"cleared\":true}", 1, 1}); }

    // Returns DYNAMO_OK, or DYNAMO_PENDING if the queue is full. Throws Failure.
    std::int32_t publish(KvEvents events) const;

    std::shared_ptr<KvEventQueue> queue;

  private:
    std::uint32_t block_size_ = 0;
    bool relays_ = false;
};

void KvPublisher::add(KvEvents &events, const dynamo_kv_event_t &event) const {
    switch (event.kind) {
        case DYNAMO_KV_STORED:
            return add_stored(events, event.stored);
        case DYNAMO_KV_REMOVED:
            return add_removed(events, event.removed, event.removed_count, "removed");
        case DYNAMO_KV_CLEARED:
            return add_cleared(events);
        default:
            reject_argument("kind must be a dynamo_kv_event_kind_t from 1 to 3, not " +
                            std::to_string(event.kind));
    }
}

void KvPublisher::add_stored(KvEvents &events, const dynamo_kv_stored_t *given) const {
    const dynamo_kv_stored_t stored = structs::read(given, "stored");
    const auto tokens = capi::array(stored.token_ids, stored.token_count, "stored->token_ids");
    const auto hashes =
        capi::array(stored.block_hashes, stored.block_count, "stored->block_hashes");
    const std::uint32_t size = stored.tokens_per_block == 0 ? block_size_ : stored.tokens_per_block;
    if (size != block_size_) {
        reject_argument("stored->tokens_per_block is " + std::to_string(size) +
                        ", but the publisher's \"kv_block_size\" is " +
                        std::to_string(block_size_));
    }
    if (hashes.empty()) {
        reject_argument("stored->block_count is 0");
    }
    if (tokens.size() / size != hashes.size() || tokens.size() % size != 0) {
        reject_argument("stored->token_count must be " + std::to_string(hashes.size()) +
                        " blocks of " + std::to_string(size) + " tokens, not " +
                        std::to_string(tokens.size()));
    }
    if (stored.has_parent != 0 && stored.has_parent != 1) {
        reject_argument("stored->has_parent must be 0 or 1, not " +
                        std::to_string(stored.has_parent));
    }
    std::string text = "{\"stored\":{\"token_ids\":";
    append_numbers(text, tokens);
    text += ",\"block_hashes\":";
    append_numbers(text, hashes);
    if (stored.has_parent == 1) {
        text += ",\"parent_hash\":" + std::to_string(stored.parent_hash);
    }
    append_text(text, "lora_name", stored.lora_name);
    append_text(text, "cache_salt", stored.cache_salt);
    events.append({text + "}}", 1, hashes.size()});
}

void KvPublisher::add_removed(KvEvents &events, const std::uint64_t *given, std::size_t count,
                              const char *name) {
    const auto hashes = capi::array(given, count, name);
    std::string text = "{\"removed\":";
    append_numbers(text, hashes);
    // Counts an event without blocks as one block. Otherwise the queue, which is bounded in blocks, would accept
    // any number of these events.
    events.append({text + "}", 1, std::max<std::size_t>(1, hashes.size())});
}

std::int32_t KvPublisher::publish(KvEvents events) const {
    if (relays_) {
        throw Failure(
            DYNAMO_ERROR_INVALID_STATE,
            "the publisher passes on the events of its \"zmq_endpoint\" and takes no others");
    }
    return queue->publish(std::move(events)) ? DYNAMO_OK : DYNAMO_PENDING;
}

}  // namespace

template <>
struct HandleTraits<KvPublisher> {
    using CType = dynamo_kv_publisher_t;
    static constexpr HandleKind kind = HandleKind::kv_publisher;
};

}  // namespace dynamo

using namespace dynamo;
using capi::status_of;

dynamo_kv_publisher_t *dynamo_kv_publisher_create(const char *config_json) {
    return services::create<KvPublisher>(config_json);
}

void dynamo_kv_publisher_destroy(dynamo_kv_publisher_t *publisher) {
    services::destroy<KvPublisher>(publisher);
}

char *dynamo_kv_publisher_info(dynamo_kv_publisher_t *publisher) {
    return services::text_of(
        [&] { return HandleRef<KvPublisher>(publisher)->call("info", nullptr); });
}

int32_t dynamo_kv_publisher_stored(dynamo_kv_publisher_t *publisher,
                                   const dynamo_kv_stored_t *stored) {
    return status_of([&] {
        const HandleRef<KvPublisher> held(publisher);
        KvEvents events;
        held->add_stored(events, stored);
        return held->publish(std::move(events));
    });
}

int32_t dynamo_kv_publisher_removed(dynamo_kv_publisher_t *publisher, const uint64_t *block_hashes,
                                    size_t count) {
    return status_of([&] {
        const HandleRef<KvPublisher> held(publisher);
        KvEvents events;
        KvPublisher::add_removed(events, block_hashes, count, "block_hashes");
        return held->publish(std::move(events));
    });
}

int32_t dynamo_kv_publisher_cleared(dynamo_kv_publisher_t *publisher) {
    return status_of([&] {
        const HandleRef<KvPublisher> held(publisher);
        KvEvents events;
        KvPublisher::add_cleared(events);
        return held->publish(std::move(events));
    });
}

int32_t dynamo_kv_publisher_publish_many(dynamo_kv_publisher_t *publisher,
                                         const dynamo_kv_event_t *events, size_t count,
                                         size_t event_size) {
    return status_of([&] {
        const HandleRef<KvPublisher> held(publisher);
        structs::require_size<dynamo_kv_event_t>(event_size, "event_size");
        if (count > 0) {
            capi::not_null(events, "events");
        }
        KvEvents all;
        const auto *const bytes = reinterpret_cast<const std::byte *>(events);
        for (std::size_t number = 0; number < count; ++number) {
            try {
                dynamo_kv_event_t copy{};
                held->add(all, structs::complete(*reinterpret_cast<const dynamo_kv_event_t *>(
                                                     bytes + number * event_size),
                                                 event_size, copy));
            } catch (const Failure &failure) {
                Error error = failure.error();
                error.message = "events[" + std::to_string(number) + "]: " + error.message;
                throw Failure(std::move(error));
            }
        }
        return held->publish(std::move(all));
    });
}

int32_t dynamo_kv_publisher_flush(dynamo_kv_publisher_t *publisher, int64_t timeout_ms) {
    return status_of([&] {
        const HandleRef<KvPublisher> held(publisher);
        if (timeout_ms != 0) {
            wait_check::require_allowed("dynamo_kv_publisher_flush()", false);
        }
        return held->queue->flush(capi::timeout(timeout_ms)) ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

char *dynamo_kv_publisher_statistics(dynamo_kv_publisher_t *publisher) {
    return services::text_of(
        [&] { return HandleRef<KvPublisher>(publisher)->queue->statistics(); });
}

int32_t dynamo_kv_publisher_hashes(dynamo_kv_publisher_t *publisher, const uint32_t *token_ids,
                                   size_t count, const char *lora_name, const char *cache_salt,
                                   uint64_t **hashes, size_t *hash_count) {
    if (hashes != nullptr) {
        *hashes = nullptr;
    }
    if (hash_count != nullptr) {
        *hash_count = 0;
    }
    return status_of([&] {
        const HandleRef<KvPublisher> held(publisher);
        capi::not_null(hashes, "hashes");
        capi::not_null(hash_count, "hash_count");
        std::string command = "{\"hashes\":{\"token_ids\":";
        append_numbers(command, capi::array(token_ids, count, "token_ids"));
        append_text(command, "lora_name", lora_name);
        append_text(command, "cache_salt", cache_salt);
        const Json answer = json::parse(held->call(command + "}}"), "answer");
        const auto found = answer.at("hashes").get<std::vector<std::uint64_t>>();
        *hashes = capi::owned::numbers(std::span(found));
        *hash_count = found.size();
        return DYNAMO_OK;
    });
}
