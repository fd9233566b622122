// SPDX-License-Identifier: Apache-2.0
#include "services/kv_publisher.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/wait_check.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "capi/structs.hpp"
#include "embed/python.hpp"
#include "engines/native.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

namespace {

template <class T>
std::span<const T> array_of(const T *first, std::size_t count, const char *name) {
    return {count == 0 ? nullptr : capi::not_null(first, name), count};
}

void add(KvEvents &events, KvPublisher &publisher, const dynamo_kv_stored_t *given) {
    const dynamo_kv_stored_t stored = capi::read(given, "stored");
    array_of(stored.token_ids, stored.token_count, "stored->token_ids");
    array_of(stored.block_hashes, stored.block_count, "stored->block_hashes");
    publisher.add_stored(events, stored);
}

void add(KvEvents &events, KvPublisher &publisher, const dynamo_kv_event_t &event) {
    switch (event.kind) {
        case DYNAMO_KV_STORED:
            add(events, publisher, event.stored);
            return;
        case DYNAMO_KV_REMOVED:
            KvPublisher::add_removed(events,
                                     array_of(event.removed, event.removed_count, "removed"));
            return;
        case DYNAMO_KV_CLEARED:
            KvPublisher::add_cleared(events);
            return;
        default:
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                          "kind must be a dynamo_kv_event_kind_t from 1 to 3, not " +
                              std::to_string(event.kind));
    }
}

std::int32_t publish(KvPublisher &publisher, KvEvents events) {
    return publisher.publish(std::move(events)) ? DYNAMO_OK : DYNAMO_PENDING;
}

}  // namespace

dynamo_kv_publisher_t *dynamo_kv_publisher_create(const char *config_json) {
    return created<KvPublisher>([&] {
        RuntimeConfig config = KvPublisher::parse_config(capi::text(config_json, "config_json"));
        engines::register_native();
        config.models.front().engine = embed::engine_from_python(config.models.front());
        return open_handle(std::make_shared<KvPublisher>(config));
    });
}

void dynamo_kv_publisher_destroy(dynamo_kv_publisher_t *publisher) {
    status_of([&] {
        if (publisher != nullptr && !close_handle<KvPublisher>(publisher)) {
            HandleRef<KvPublisher> says_why(publisher);
        }
        return DYNAMO_OK;
    });
}

char *dynamo_kv_publisher_info(dynamo_kv_publisher_t *publisher) {
    return value_of<char *>(
        nullptr, [&] { return capi::owned::text(HandleRef<KvPublisher>(publisher)->info()); });
}

int32_t dynamo_kv_publisher_stored(dynamo_kv_publisher_t *publisher,
                                   const dynamo_kv_stored_t *stored) {
    return status_of([&] {
        HandleRef<KvPublisher> held(publisher);
        KvEvents events;
        add(events, *held, stored);
        return publish(*held, std::move(events));
    });
}

int32_t dynamo_kv_publisher_removed(dynamo_kv_publisher_t *publisher, const uint64_t *block_hashes,
                                    size_t count) {
    return status_of([&] {
        HandleRef<KvPublisher> held(publisher);
        KvEvents events;
        KvPublisher::add_removed(events, array_of(block_hashes, count, "block_hashes"));
        return publish(*held, std::move(events));
    });
}

int32_t dynamo_kv_publisher_cleared(dynamo_kv_publisher_t *publisher) {
    return status_of([&] {
        HandleRef<KvPublisher> held(publisher);
        KvEvents events;
        KvPublisher::add_cleared(events);
        return publish(*held, std::move(events));
    });
}

int32_t dynamo_kv_publisher_publish_many(dynamo_kv_publisher_t *publisher,
                                         const dynamo_kv_event_t *events, size_t count,
                                         size_t event_size) {
    return status_of([&] {
        HandleRef<KvPublisher> held(publisher);
        capi::require_size<dynamo_kv_event_t>(event_size, "event_size");
        if (count > 0) {
            capi::not_null(events, "events");
        }
        KvEvents all;
        const auto *const bytes = reinterpret_cast<const std::byte *>(events);
        for (std::size_t number = 0; number < count; ++number) {
            try {
                dynamo_kv_event_t copy{};
                add(all, *held,
                    capi::complete(
                        *reinterpret_cast<const dynamo_kv_event_t *>(bytes + number * event_size),
                        event_size, copy));
            } catch (const Failure &failure) {
                Error error = failure.error();
                error.message = "events[" + std::to_string(number) + "]: " + error.message;
                throw Failure(std::move(error));
            }
        }
        return publish(*held, std::move(all));
    });
}

int32_t dynamo_kv_publisher_flush(dynamo_kv_publisher_t *publisher, int64_t timeout_ms) {
    return status_of([&] {
        HandleRef<KvPublisher> held(publisher);
        if (timeout_ms != 0) {
            wait_check::require_allowed("dynamo_kv_publisher_flush()", false);
        }
        return held->flush(capi::timeout(timeout_ms)) ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

char *dynamo_kv_publisher_statistics(dynamo_kv_publisher_t *publisher) {
    return value_of<char *>(nullptr, [&] {
        return capi::owned::text(HandleRef<KvPublisher>(publisher)->statistics());
    });
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
        HandleRef<KvPublisher> held(publisher);
        capi::not_null(hashes, "hashes");
        capi::not_null(hash_count, "hash_count");
        const auto found =
            held->hashes(array_of(token_ids, count, "token_ids"), lora_name, cache_salt);
        *hashes = capi::owned::numbers(std::span(found));
        *hash_count = found.size();
        return DYNAMO_OK;
    });
}
