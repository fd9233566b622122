// SPDX-License-Identifier: Apache-2.0
/**
 * @file dynamo_llm/cluster.hpp
 * @brief Workers, KV events, and routers of NVIDIA Dynamo clusters, for C++17 and later.
 *
 * The rules of dynamo_llm.hpp hold here, too.
 */
#ifndef DYNAMO_LLM_CLUSTER_HPP
#define DYNAMO_LLM_CLUSTER_HPP

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "../dynamo_llm.hpp"
#include "cluster.h"

DYNAMO_LLM_BEGIN

namespace detail {
inline const char *text_or_null(const std::string &text) noexcept {
    return text.empty() ? nullptr : text.c_str();
}

// The error of the first text that has a NUL byte. Pairs of a text and its name.
inline std::optional<Error> check_texts(
    std::initializer_list<std::pair<const std::string *, const char *>> texts) {
    for (const auto &[text, name] : texts) {
        if (auto error = check_text(*text, name)) {
            return error;
        }
    }
    return std::nullopt;
}

// true for DYNAMO_OK, false for DYNAMO_PENDING.
inline Returned<bool> taken(std::int32_t status) {
    if (status < 0) {
        return failed<bool>(Error::last());
    }
    return status == DYNAMO_OK;
}
}  // namespace detail

/** The load of a data parallel rank of a worker: dynamo_worker_load_t. */
struct WorkerLoad {
    /** The rank, from 0. */
    std::uint32_t data_parallel_rank = 0;
    /** KV blocks of the requests in decode, if known. */
    std::optional<std::int64_t> active_decode_blocks;
    /** All KV blocks in use, if known. */
    std::optional<std::int64_t> kv_used_blocks;
};

/** An engine that is served to a cluster. */
class Worker : public Owner<dynamo_worker_t, dynamo_worker_destroy> {
  public:
    using Owner::Owner;

    /** Starts the engine and serves it; waits until it is registered. Errors: those of dynamo_worker_create(). */
    [[nodiscard]] static Returned<Worker> create(const std::string &config_json) {
        return detail::create<Worker>(dynamo_worker_create, config_json);
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** Same as create(). */
    explicit Worker(const std::string &config_json) : Worker(create(config_json)) {}
#endif

    /** Returns the present state as JSON, see dynamo_worker_info(), also for errors. Waits for Python. */
    Returned<std::string> info() const { return detail::owned_text(dynamo_worker_info(get())); }
    /** Leaves the cluster; requests in flight have this long to end. Errors: DEADLINE_EXCEEDED (some were cancelled),
     * and the others of dynamo_worker_shutdown(). */
    template <class Rep, class Period>
    Returned<void> shutdown(std::chrono::duration<Rep, Period> timeout) const {
        return detail::done(dynamo_worker_shutdown(get(), detail::milliseconds(timeout)));
    }
    /** Waits until the worker has stopped. Errors: those of dynamo_worker_wait(). */
    Returned<void> wait() const { return detail::done(dynamo_worker_wait(get(), -1)); }
    /** As above, with a timeout. Returns false if the worker has not stopped in time. */
    template <class Rep, class Period>
    Returned<bool> wait(std::chrono::duration<Rep, Period> timeout) const {
        const std::int32_t status = dynamo_worker_wait(get(), detail::milliseconds(timeout));
        if (status < 0) {
            return detail::failed<bool>(Error::last());
        }
        return status == DYNAMO_END;
    }
    /** Publishes the load to routers; does not wait. Errors: those of dynamo_worker_publish_load(). */
    Returned<void> publish_load(const WorkerLoad &load) const {
        dynamo_worker_load_t c{};
        c.struct_size = sizeof c;
        c.data_parallel_rank = load.data_parallel_rank;
        c.active_decode_blocks = load.active_decode_blocks.value_or(-1);
        c.kv_used_blocks = load.kv_used_blocks.value_or(-1);
        return detail::done(dynamo_worker_publish_load(get(), &c));
    }
};

/** Consecutive blocks that were computed: dynamo_kv_stored_t. */
struct KvStored {
    /** The tokens of all blocks; full blocks only. */
    std::vector<std::uint32_t> token_ids;
    /** A hash for each block: on all workers the same function of everything up to the end of the block. */
    std::vector<std::uint64_t> block_hashes;
    /** Hash of the block before the first one; empty if the first one begins a prompt. */
    std::optional<std::uint64_t> parent_hash;
    /** LoRA adapter; "" if none. */
    std::string lora_name;
    /** Cache salt; "" if none. */
    std::string cache_salt;
    /** Tokens per block in the engine; 0 for the publisher's value. */
    std::uint32_t tokens_per_block = 0;

    /** Returns the C struct, which points into this object. */
    dynamo_kv_stored_t c() const noexcept {
        dynamo_kv_stored_t stored{};
        stored.struct_size = sizeof stored;
        stored.token_ids = token_ids.data();
        stored.token_count = token_ids.size();
        stored.block_hashes = block_hashes.data();
        stored.block_count = block_hashes.size();
        stored.tokens_per_block = tokens_per_block;
        stored.has_parent = parent_hash.has_value() ? 1 : 0;
        stored.parent_hash = parent_hash.value_or(0);
        stored.lora_name = detail::text_or_null(lora_name);
        stored.cache_salt = detail::text_or_null(cache_salt);
        return stored;
    }
};

namespace detail {
inline std::optional<Error> check_texts(const KvStored &stored) {
    return check_texts({{&stored.lora_name, "lora_name"}, {&stored.cache_salt, "cache_salt"}});
}
}  // namespace detail

/** Blocks that were dropped. */
struct KvRemoved {
    /** The hashes with which they were stored. */
    std::vector<std::uint64_t> block_hashes;
};

/** All blocks were dropped. */
struct KvCleared {};

/** A KV event. */
using KvEvent = std::variant<KvStored, KvRemoved, KvCleared>;

/** Publishes which KV blocks a worker has. stored(), removed(), cleared(), and publish_many() do not wait. They return
 * false if the queue is full; then nothing was taken. */
class KvPublisher : public Owner<dynamo_kv_publisher_t, dynamo_kv_publisher_destroy> {
  public:
    using Owner::Owner;

    /** Joins the cluster, and waits until that is done. Errors: those of dynamo_kv_publisher_create(). */
    [[nodiscard]] static Returned<KvPublisher> create(const std::string &config_json) {
        return detail::create<KvPublisher>(dynamo_kv_publisher_create, config_json);
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** Same as create(). */
    explicit KvPublisher(const std::string &config_json) : KvPublisher(create(config_json)) {}
#endif

    /** Returns the present state as JSON, see dynamo_kv_publisher_info(), also for errors. Waits for Python. */
    Returned<std::string> info() const {
        return detail::owned_text(dynamo_kv_publisher_info(get()));
    }

    /** Publishes that blocks were computed. Errors: those of dynamo_kv_publisher_stored(). */
    Returned<bool> stored(const KvStored &event) const {
        return detail::checked<bool>(detail::check_texts(event), [&, c = event.c()] {
            return detail::taken(dynamo_kv_publisher_stored(get(), &c));
        });
    }
    /** Publishes that blocks were dropped. Errors: those of dynamo_kv_publisher_removed(). */
    Returned<bool> removed(const std::vector<std::uint64_t> &block_hashes) const {
        return detail::taken(
            dynamo_kv_publisher_removed(get(), block_hashes.data(), block_hashes.size()));
    }
    /** Publishes that all blocks were dropped. Errors: those of dynamo_kv_publisher_cleared(). */
    Returned<bool> cleared() const { return detail::taken(dynamo_kv_publisher_cleared(get())); }
    /** Publishes the events of a whole engine step, in order. Either all of them are taken, or none. Errors: those of
     * dynamo_kv_publisher_publish_many(). */
    Returned<bool> publish_many(const std::vector<KvEvent> &events) const {
        std::vector<dynamo_kv_stored_t> stored;
        stored.reserve(events.size());
        std::vector<dynamo_kv_event_t> all;
        all.reserve(events.size());
        for (const KvEvent &event : events) {
            dynamo_kv_event_t c{};
            if (const auto *const computed = std::get_if<KvStored>(&event)) {
                if (auto error = detail::check_texts(*computed)) {
                    return detail::failed<bool>(std::move(*error));
                }
                stored.push_back(computed->c());
                c.kind = DYNAMO_KV_STORED;
                c.stored = &stored.back();
            } else if (const auto *const dropped = std::get_if<KvRemoved>(&event)) {
                c.kind = DYNAMO_KV_REMOVED;
                c.removed = dropped->block_hashes.data();
                c.removed_count = dropped->block_hashes.size();
            } else {
                c.kind = DYNAMO_KV_CLEARED;
            }
            all.push_back(c);
        }
        return detail::taken(dynamo_kv_publisher_publish_many(get(), all.data(), all.size(),
                                                              sizeof(dynamo_kv_event_t)));
    }
    /** Waits until everything was passed to NVIDIA Dynamo. Errors: those of dynamo_kv_publisher_flush(). */
    Returned<void> flush() const { return detail::done(dynamo_kv_publisher_flush(get(), -1)); }
    /** As above, with a timeout. Returns false if not everything was passed on in time. */
    template <class Rep, class Period>
    Returned<bool> flush(std::chrono::duration<Rep, Period> timeout) const {
        return detail::taken(dynamo_kv_publisher_flush(get(), detail::milliseconds(timeout)));
    }
    /** Returns counters as JSON, see dynamo_kv_publisher_statistics(), also for errors. */
    Returned<std::string> statistics() const {
        return detail::owned_text(dynamo_kv_publisher_statistics(get()));
    }
    /** Computes the hashes of the full blocks of a prompt as NVIDIA Dynamo does. Waits for Python. Errors: those of
     * dynamo_kv_publisher_hashes(). */
    Returned<std::vector<std::uint64_t>> hashes(TokenIds token_ids,
                                                const std::string &lora_name = {},
                                                const std::string &cache_salt = {}) const {
        if (auto error =
                detail::check_texts({{&lora_name, "lora_name"}, {&cache_salt, "cache_salt"}})) {
            return detail::failed<std::vector<std::uint64_t>>(std::move(*error));
        }
        std::uint64_t *found = nullptr;
        std::size_t count = 0;
        if (dynamo_kv_publisher_hashes(
                get(), token_ids.data(), token_ids.size(), detail::text_or_null(lora_name),
                detail::text_or_null(cache_salt), &found, &count) != DYNAMO_OK) {
            return detail::failed<std::vector<std::uint64_t>>(Error::last());
        }
        const detail::Freed<std::uint64_t> owned(found);
        return std::vector<std::uint64_t>(found, found + count);
    }
};

/** Which worker of a request to select. */
enum class RoutePhase : std::int32_t {
    /** Every worker that the request needs. */
    all = DYNAMO_ROUTE_ALL,
    /** The worker that computes the prompt. */
    prefill = DYNAMO_ROUTE_PREFILL,
    /** The worker that generates the answer. */
    decode = DYNAMO_ROUTE_DECODE,
};

/** How to select workers: dynamo_route_options_t. */
struct RouteOptions {
    /** Which worker to select. */
    RoutePhase phase = RoutePhase::all;
    /** If not "", the request is reserved on the selected workers under this id. */
    std::string request_id;
    /** Ids of the workers that may be selected; empty for all. */
    std::vector<std::uint64_t> worker_ids;
    /** LoRA adapter; "" if none. */
    std::string lora_name;
    /** Cache salt; "" if none. */
    std::string cache_salt;
    /** Strict priority among queued requests: higher values are always scheduled first. */
    std::uint32_t strict_priority = 0;
    /** Seconds by which the request moves ahead in the queue. */
    double priority_jump = 0;
    /** Maximum number of tokens of the answer; 0 if not known. */
    std::uint64_t expected_output_tokens = 0;
    /** {"required_taints": [...], "preferred_taints": {...}}; "" if none. */
    std::string constraints_json;

    /** Returns the C struct, which points into this object. */
    dynamo_route_options_t c() const noexcept {
        dynamo_route_options_t options{};
        options.struct_size = sizeof options;
        options.phase = static_cast<std::int32_t>(phase);
        options.strict_priority = strict_priority;
        options.request_id = detail::text_or_null(request_id);
        options.worker_ids = worker_ids.data();
        options.worker_count = worker_ids.size();
        options.lora_name = detail::text_or_null(lora_name);
        options.cache_salt = detail::text_or_null(cache_salt);
        options.priority_jump = priority_jump;
        options.expected_output_tokens = expected_output_tokens;
        options.constraints_json = detail::text_or_null(constraints_json);
        return options;
    }
};

namespace detail {
inline std::optional<Error> check_texts(const RouteOptions &options) {
    return check_texts({{&options.request_id, "request_id"},
                        {&options.lora_name, "lora_name"},
                        {&options.cache_salt, "cache_salt"},
                        {&options.constraints_json, "constraints_json"}});
}
}  // namespace detail

/** A selected worker. */
struct ChosenWorker {
    /** Its id: in a cluster, its instance id. */
    std::uint64_t worker_id = 0;
    /** Its data parallel rank. */
    std::uint32_t data_parallel_rank = 0;
    /** Number of blocks of the prompt that it has. */
    std::uint32_t overlap_blocks = 0;
    /** Where it serves, "" if not known. It points into the selection. */
    std::string_view address;
};

/** The selected workers of a request. */
class Selection {
  public:
    /** Takes ownership of a C struct. */
    explicit Selection(dynamo_selection_t *owned) noexcept : selection_(owned) {}

    /** Returns the C struct; this object keeps ownership. */
    const dynamo_selection_t *get() const noexcept { return selection_.get(); }
    /** Returns the worker that generates the answer; empty if only a worker for the prompt was requested. */
    std::optional<ChosenWorker> worker() const noexcept {
        if (selection_->has_worker == 0) {
            return std::nullopt;
        }
        return ChosenWorker{selection_->worker_id, selection_->data_parallel_rank,
                            selection_->overlap_blocks, detail::view(selection_->address)};
    }
    /** Returns the worker that computes the prompt, if it is another one. */
    std::optional<ChosenWorker> prefill_worker() const noexcept {
        if (selection_->has_prefill_worker == 0) {
            return std::nullopt;
        }
        return ChosenWorker{selection_->prefill_worker_id, selection_->prefill_data_parallel_rank,
                            selection_->prefill_overlap_blocks,
                            detail::view(selection_->prefill_address)};
    }
    /** Returns the prompt, which points into this object. */
    TokenIds token_ids() const noexcept {
        return TokenIds(selection_->token_ids, selection_->token_count);
    }

  private:
    detail::Freed<dynamo_selection_t> selection_;
};

/** Selects workers for requests. Many threads may use one router at the same time. Each function except info() waits
 * for an answer of Python. */
class Router : public Owner<dynamo_router_t, dynamo_router_destroy> {
  public:
    using Owner::Owner;

    /** Creates a router, and waits until it has joined the cluster. Errors: those of dynamo_router_create(). */
    [[nodiscard]] static Returned<Router> create(const std::string &config_json) {
        return detail::create<Router>(dynamo_router_create, config_json);
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** Same as create(). */
    explicit Router(const std::string &config_json) : Router(create(config_json)) {}
#endif

    /** Returns the properties as JSON, see dynamo_router_info(), also for errors. */
    Returned<std::string> info() const { return detail::owned_text(dynamo_router_info(get())); }

    /** Selects workers for a prompt. Errors: those of dynamo_router_select(). */
    Returned<Selection> select(TokenIds token_ids, const RouteOptions &options = {}) const {
        return detail::checked<Selection>(detail::check_texts(options), [&, c = options.c()] {
            return detail::owned<Selection>(
                dynamo_router_select(get(), token_ids.data(), token_ids.size(), &c));
        });
    }
    /** Selects workers for an OpenAI body. Errors: those of dynamo_router_select_body(). */
    Returned<Selection> select_body(const std::string &request_json,
                                    const RouteOptions &options = {}) const {
        if (auto error = detail::check_text(request_json, "request_json")) {
            return detail::failed<Selection>(std::move(*error));
        }
        return detail::checked<Selection>(detail::check_texts(options), [&, c = options.c()] {
            return detail::owned<Selection>(
                dynamo_router_select_body(get(), request_json.c_str(), &c));
        });
    }
    /** Reserves the workers of a selection for a request. Errors: those of dynamo_router_reserve(). */
    Returned<void> reserve(const std::string &request_id, const Selection &selection,
                           const RouteOptions &options = {}) const {
        if (auto error = detail::check_text(request_id, "request_id")) {
            return detail::failed<void>(std::move(*error));
        }
        return detail::checked<void>(detail::check_texts(options), [&, c = options.c()] {
            return detail::done(
                dynamo_router_reserve(get(), request_id.c_str(), selection.get(), &c));
        });
    }
    /** Reports that the first token of a reserved request has arrived. Errors: those of
     * dynamo_router_prefill_complete(). */
    Returned<void> prefill_complete(const std::string &request_id) const {
        return detail::checked<void>(detail::check_text(request_id, "request_id"), [&] {
            return detail::done(dynamo_router_prefill_complete(get(), request_id.c_str()));
        });
    }
    /** Reports that the answer has filled one more KV block. Errors: those of dynamo_router_output_block(). */
    Returned<void> output_block(const std::string &request_id, double decay = 1) const {
        return detail::checked<void>(detail::check_text(request_id, "request_id"), [&] {
            return detail::done(dynamo_router_output_block(get(), request_id.c_str(), decay));
        });
    }
    /** Releases the reservation of a request that has ended. Errors: those of dynamo_router_free(). */
    Returned<void> free(const std::string &request_id) const {
        return detail::checked<void>(detail::check_text(request_id, "request_id"), [&] {
            return detail::done(dynamo_router_free(get(), request_id.c_str()));
        });
    }
    /** Returns the load that each worker would have, as JSON. Errors: those of dynamo_router_loads(). */
    Returned<std::string> loads(TokenIds token_ids = {nullptr, 0},
                                const RouteOptions &options = {}) const {
        return detail::checked<std::string>(detail::check_texts(options), [&, c = options.c()] {
            return detail::owned_text(
                dynamo_router_loads(get(), token_ids.data(), token_ids.size(), &c));
        });
    }
    /** Returns how many blocks of a prompt each worker has, as JSON. Errors: those of dynamo_router_overlaps(). */
    Returned<std::string> overlaps(TokenIds token_ids, const RouteOptions &options = {}) const {
        return detail::checked<std::string>(detail::check_texts(options), [&, c = options.c()] {
            return detail::owned_text(
                dynamo_router_overlaps(get(), token_ids.data(), token_ids.size(), &c));
        });
    }
    /** Returns the live workers as JSON. Errors: those of dynamo_router_workers(). */
    Returned<std::string> workers() const {
        return detail::owned_text(dynamo_router_workers(get()));
    }
    /** Adds a worker to a static router, or changes one. Errors: those of dynamo_router_upsert_worker(). */
    Returned<void> upsert_worker(const std::string &worker_json) const {
        return detail::checked<void>(detail::check_text(worker_json, "worker_json"), [&] {
            return detail::done(dynamo_router_upsert_worker(get(), worker_json.c_str()));
        });
    }
    /** Removes a worker from a static router. Errors: those of dynamo_router_delete_worker(). */
    Returned<void> delete_worker(std::uint64_t worker_id) const {
        return detail::done(dynamo_router_delete_worker(get(), worker_id));
    }
};

DYNAMO_LLM_END

#endif  // DYNAMO_LLM_CLUSTER_HPP
