// SPDX-License-Identifier: Apache-2.0
/**
 * @file dynamo_llm/cluster.hpp
 * @brief Workers, KV events and routers of a cluster of NVIDIA Dynamo, for C++17 and later.
 *
 * Owners for the handles of the C interface. The rules of the other classes for C++ hold here too.
 */
#ifndef DYNAMO_LLM_CLUSTER_HPP
#define DYNAMO_LLM_CLUSTER_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "../dynamo_llm.hpp"
#include "cluster.h"

namespace dynamo_llm {

namespace detail {
struct DestroyKvPublisher {
    void operator()(dynamo_kv_publisher_t *publisher) const noexcept {
        dynamo_kv_publisher_destroy(publisher);
    }
};
struct DestroyWorker {
    void operator()(dynamo_worker_t *worker) const noexcept { dynamo_worker_destroy(worker); }
};
struct DestroyRouter {
    void operator()(dynamo_router_t *router) const noexcept { dynamo_router_destroy(router); }
};

inline const char *text_or_null(const std::string &text) noexcept {
    return text.empty() ? nullptr : text.c_str();
}

// true for OK, false for PENDING.
inline Returned<bool> taken(std::int32_t status) {
    if (status < 0) {
        return failed<bool>(Error::last());
    }
    return status == DYNAMO_OK;
}
}  // namespace detail

/** What a data parallel rank of a worker has to do: dynamo_worker_load_t. */
struct WorkerLoad {
    /** The rank, from 0. */
    std::uint32_t data_parallel_rank = 0;
    /** KV blocks of the requests in decode, if known. */
    std::optional<std::int64_t> active_decode_blocks;
    /** KV blocks in use, if known. */
    std::optional<std::int64_t> kv_used_blocks;
};

/** An engine that is served to a cluster. */
class Worker {
  public:
    /** Starts the engine and serves it; waits until it is registered. Errors: those of
     * dynamo_worker_create(); VERSION_MISMATCH, if this header and the library do not fit together. */
    [[nodiscard]] static Returned<Worker> create(const std::string &config_json) {
        if (auto error = detail::check_text(config_json, "config_json")) {
            return detail::failed<Worker>(std::move(*error));
        }
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return detail::failed<Worker>(Error::last());
        }
        dynamo_worker_t *const handle = dynamo_worker_create(config_json.c_str());
        if (handle == nullptr) {
            return detail::failed<Worker>(Error::last());
        }
        return Worker(handle);
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** As create(). */
    explicit Worker(const std::string &config_json) : Worker(create(config_json)) {}
#endif
    /** Takes a handle of the C interface over. */
    explicit Worker(dynamo_worker_t *owned) noexcept : handle_(owned) {}
    /** An empty one, to be assigned to. */
    explicit Worker(std::nullptr_t) noexcept {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_worker_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_worker_t *release() noexcept { return handle_.release(); }

    /** The JSON object that dynamo_worker_info() describes. Errors: its own. */
    Returned<std::string> info() const { return detail::owned_text(dynamo_worker_info(get())); }
    /** Leaves the cluster; requests in flight may take so long. Errors: DEADLINE_EXCEEDED (some were
     * cancelled), and those of dynamo_worker_shutdown(). */
    template <class Rep, class Period>
    Returned<void> shutdown(std::chrono::duration<Rep, Period> timeout) const {
        return detail::done(dynamo_worker_shutdown(get(), detail::milliseconds(timeout)));
    }
    /** Waits until it has stopped. Errors: those of dynamo_worker_wait(). */
    Returned<void> wait() const {
        const std::int32_t status = dynamo_worker_wait(get(), -1);
        return detail::done(status < 0 ? status : static_cast<std::int32_t>(DYNAMO_OK));
    }
    /** The same, for so long at most; false if it has not. */
    template <class Rep, class Period>
    Returned<bool> wait(std::chrono::duration<Rep, Period> timeout) const {
        const std::int32_t status = dynamo_worker_wait(get(), detail::milliseconds(timeout));
        if (status < 0) {
            return detail::failed<bool>(Error::last());
        }
        return status == DYNAMO_END;
    }
    /** Tells routers what it has to do; does not wait. Errors: those of dynamo_worker_publish_load(). */
    Returned<void> publish_load(const WorkerLoad &load) const {
        dynamo_worker_load_t c{};
        c.struct_size = sizeof c;
        c.data_parallel_rank = load.data_parallel_rank;
        c.active_decode_blocks = load.active_decode_blocks.value_or(-1);
        c.kv_used_blocks = load.kv_used_blocks.value_or(-1);
        return detail::done(dynamo_worker_publish_load(get(), &c));
    }

  private:
    std::unique_ptr<dynamo_worker_t, detail::DestroyWorker> handle_;
};

/** Blocks that were computed, one after the other: dynamo_kv_stored_t. */
struct KvStored {
    /** Tokens of the blocks, together; full blocks only. */
    std::vector<std::uint32_t> token_ids;
    /** A hash for each block; the same function of everything up to its end on all workers. */
    std::vector<std::uint64_t> block_hashes;
    /** Hash of the block before the first one; none if that begins a prompt. */
    std::optional<std::uint64_t> parent_hash;
    /** LoRA adapter; "" if none. */
    std::string lora_name;
    /** Cache salt; "" if none. */
    std::string cache_salt;
    /** Tokens of a block, as the engine has them; 0 for the publisher's. */
    std::uint32_t tokens_per_block = 0;

    /** As C takes it; it points into this object. */
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

/** Blocks that were dropped. */
struct KvRemoved {
    /** As they were stored. */
    std::vector<std::uint64_t> block_hashes;
};

/** All blocks were dropped. */
struct KvCleared {};

/** What happened to KV blocks. */
using KvEvent = std::variant<KvStored, KvRemoved, KvCleared>;

/** Counters of a KvPublisher: dynamo_kv_statistics_t. */
struct KvStatistics {
    /** Events that were handed over to NVIDIA Dynamo. */
    std::uint64_t published_events = 0;
    /** Events that wait for that. */
    std::uint64_t queued_events = 0;
    /** Blocks in those. */
    std::uint64_t queued_blocks = 0;
    /** Events that could not be handed over. */
    std::uint64_t failed_events = 0;
    /** Blocks that the worker has, by what was handed over. */
    std::uint64_t stored_blocks = 0;
};

/** Tells routers which KV blocks a worker has. stored(), removed(), cleared() and publish_many() do not
 * wait, and give false if the queue is full: then nothing was taken. */
class KvPublisher {
  public:
    /** Joins the cluster, and waits for that. Errors: those of dynamo_kv_publisher_create();
     * VERSION_MISMATCH, if this header and the library do not fit together. */
    [[nodiscard]] static Returned<KvPublisher> create(const std::string &config_json) {
        if (auto error = detail::check_text(config_json, "config_json")) {
            return detail::failed<KvPublisher>(std::move(*error));
        }
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return detail::failed<KvPublisher>(Error::last());
        }
        dynamo_kv_publisher_t *const handle = dynamo_kv_publisher_create(config_json.c_str());
        if (handle == nullptr) {
            return detail::failed<KvPublisher>(Error::last());
        }
        return KvPublisher(handle);
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** As create(). */
    explicit KvPublisher(const std::string &config_json) : KvPublisher(create(config_json)) {}
#endif
    /** Takes a handle of the C interface over. */
    explicit KvPublisher(dynamo_kv_publisher_t *owned) noexcept : handle_(owned) {}
    /** An empty one, to be assigned to. */
    explicit KvPublisher(std::nullptr_t) noexcept {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_kv_publisher_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_kv_publisher_t *release() noexcept { return handle_.release(); }

    /** The JSON object that dynamo_kv_publisher_info() describes. Errors: its own. */
    Returned<std::string> info() const {
        return detail::owned_text(dynamo_kv_publisher_info(get()));
    }

    /** Says that blocks were computed. Errors: those of dynamo_kv_publisher_stored(). */
    Returned<bool> stored(const KvStored &event) const {
        const dynamo_kv_stored_t c = event.c();
        return detail::taken(dynamo_kv_publisher_stored(get(), &c));
    }
    /** Says that blocks were dropped. Errors: those of dynamo_kv_publisher_removed(). */
    Returned<bool> removed(const std::vector<std::uint64_t> &block_hashes) const {
        return detail::taken(
            dynamo_kv_publisher_removed(get(), block_hashes.data(), block_hashes.size()));
    }
    /** Says that all blocks were dropped. Errors: those of dynamo_kv_publisher_cleared(). */
    Returned<bool> cleared() const { return detail::taken(dynamo_kv_publisher_cleared(get())); }
    /** Says what happened in a step of an engine, in order: all of it is taken, or nothing. Errors: those
     * of dynamo_kv_publisher_publish_many(). */
    Returned<bool> publish_many(const std::vector<KvEvent> &events) const {
        std::vector<dynamo_kv_stored_t> stored;
        stored.reserve(events.size());
        std::vector<dynamo_kv_event_t> all;
        all.reserve(events.size());
        for (const KvEvent &event : events) {
            dynamo_kv_event_t c{};
            if (const auto *const computed = std::get_if<KvStored>(&event)) {
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
    /** Waits until everything was handed over to NVIDIA Dynamo. Errors: those of
     * dynamo_kv_publisher_flush(). */
    Returned<void> flush() const { return detail::done(dynamo_kv_publisher_flush(get(), -1)); }
    /** The same, for so long at most; false if not all was. */
    template <class Rep, class Period>
    Returned<bool> flush(std::chrono::duration<Rep, Period> timeout) const {
        return detail::taken(dynamo_kv_publisher_flush(get(), detail::milliseconds(timeout)));
    }
    /** Counters. Errors: INVALID_HANDLE. */
    Returned<KvStatistics> statistics() const {
        dynamo_kv_statistics_t c{};
        c.struct_size = sizeof c;
        if (dynamo_kv_publisher_statistics(get(), &c) != DYNAMO_OK) {
            return detail::failed<KvStatistics>(Error::last());
        }
        return KvStatistics{c.published_events, c.queued_events, c.queued_blocks, c.failed_events,
                            c.stored_blocks};
    }
    /** Hashes of the full blocks of a prompt, as NVIDIA Dynamo computes them; waits for Python. Errors:
     * those of dynamo_kv_publisher_hashes(). */
    Returned<std::vector<std::uint64_t>> hashes(TokenIds token_ids,
                                                const std::string &lora_name = {},
                                                const std::string &cache_salt = {}) const {
        std::uint64_t *found = nullptr;
        std::size_t count = 0;
        if (dynamo_kv_publisher_hashes(
                get(), token_ids.data(), token_ids.size(), detail::text_or_null(lora_name),
                detail::text_or_null(cache_salt), &found, &count) != DYNAMO_OK) {
            return detail::failed<std::vector<std::uint64_t>>(Error::last());
        }
        const std::unique_ptr<std::uint64_t, detail::Free<std::uint64_t>> owned(found);
        return std::vector<std::uint64_t>(found, found + count);
    }

  private:
    std::unique_ptr<dynamo_kv_publisher_t, detail::DestroyKvPublisher> handle_;
};

/** Which worker of a request is looked for. */
enum class RoutePhase : std::int32_t {
    /** Each one that the request needs. */
    all = DYNAMO_ROUTE_ALL,
    /** The one that computes the prompt. */
    prefill = DYNAMO_ROUTE_PREFILL,
    /** The one that answers. */
    decode = DYNAMO_ROUTE_DECODE,
};

/** How to choose: dynamo_route_options_t. */
struct RouteOptions {
    /** Which worker is looked for. */
    RoutePhase phase = RoutePhase::all;
    /** If not "", the request is booked on what is chosen, under this id. */
    std::string request_id;
    /** Ids of the workers that may be chosen; empty for all. */
    std::vector<std::uint64_t> workers;
    /** LoRA adapter; "" if none. */
    std::string lora_name;
    /** Cache salt; "" if none. */
    std::string cache_salt;
    /** More goes ahead of less, whatever else. */
    std::uint32_t strict_priority = 0;
    /** Seconds that it goes ahead of others. */
    double priority_jump = 0;
    /** Tokens that its answer may have; 0 if not known. */
    std::uint64_t expected_output_tokens = 0;
    /** {"required_taints": [...], "preferred_taints": {...}}; "" if none. */
    std::string constraints_json;

    /** As C takes it; it points into this object. */
    dynamo_route_options_t c() const noexcept {
        dynamo_route_options_t options{};
        options.struct_size = sizeof options;
        options.phase = static_cast<std::int32_t>(phase);
        options.strict_priority = strict_priority;
        options.request_id = detail::text_or_null(request_id);
        options.workers = workers.data();
        options.worker_count = workers.size();
        options.lora_name = detail::text_or_null(lora_name);
        options.cache_salt = detail::text_or_null(cache_salt);
        options.priority_jump = priority_jump;
        options.expected_output_tokens = expected_output_tokens;
        options.constraints_json = detail::text_or_null(constraints_json);
        return options;
    }
};

/** A worker that was chosen. */
struct ChosenWorker {
    /** Its id: in the cluster, the instance id. */
    std::uint64_t id = 0;
    /** Its data parallel rank. */
    std::uint32_t dp_rank = 0;
    /** Blocks of the prompt that it has. */
    std::uint32_t overlap_blocks = 0;
    /** Where it serves; the selection's. "" if that is not known. */
    std::string_view address;
};

/** The workers for a request. */
class Selection {
  public:
    /** Takes a struct of the C interface over. */
    explicit Selection(dynamo_selection_t *owned) noexcept : selection_(owned) {}

    /** As C has it. */
    const dynamo_selection_t *get() const noexcept { return selection_.get(); }
    /** Who answers; none if only a worker for the prompt was asked for. */
    std::optional<ChosenWorker> worker() const noexcept {
        if (selection_->has_worker == 0) {
            return std::nullopt;
        }
        return ChosenWorker{selection_->worker_id, selection_->dp_rank, selection_->overlap_blocks,
                            detail::view(selection_->address)};
    }
    /** Who computes the prompt, if that is another one. */
    std::optional<ChosenWorker> prefill_worker() const noexcept {
        if (selection_->has_prefill_worker == 0) {
            return std::nullopt;
        }
        return ChosenWorker{selection_->prefill_worker_id, selection_->prefill_dp_rank,
                            selection_->prefill_overlap_blocks,
                            detail::view(selection_->prefill_address)};
    }
    /** The prompt; the selection's. */
    TokenIds token_ids() const noexcept {
        return TokenIds(selection_->token_ids, selection_->token_count);
    }

  private:
    std::unique_ptr<dynamo_selection_t, detail::Free<dynamo_selection_t>> selection_;
};

/** Chooses workers for requests. Many threads may use one; each function, but for info(), waits for an
 * answer. */
class Router {
  public:
    /** Opens a router, and waits until it has joined the cluster. Errors: those of
     * dynamo_router_create(); VERSION_MISMATCH, if this header and the library do not fit together. */
    [[nodiscard]] static Returned<Router> create(const std::string &config_json) {
        if (auto error = detail::check_text(config_json, "config_json")) {
            return detail::failed<Router>(std::move(*error));
        }
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return detail::failed<Router>(Error::last());
        }
        dynamo_router_t *const handle = dynamo_router_create(config_json.c_str());
        if (handle == nullptr) {
            return detail::failed<Router>(Error::last());
        }
        return Router(handle);
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** As create(). */
    explicit Router(const std::string &config_json) : Router(create(config_json)) {}
#endif
    /** Takes a handle of the C interface over. */
    explicit Router(dynamo_router_t *owned) noexcept : handle_(owned) {}
    /** An empty one, to be assigned to. */
    explicit Router(std::nullptr_t) noexcept {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_router_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_router_t *release() noexcept { return handle_.release(); }

    /** The JSON object that dynamo_router_info() describes; lives as long as this. Errors:
     * INVALID_HANDLE. */
    Returned<std::string_view> info() const {
        const char *const text = dynamo_router_info(get());
        if (text == nullptr) {
            return detail::failed<std::string_view>(Error::last());
        }
        return std::string_view(text);
    }

    /** Chooses for a prompt. Errors: those of dynamo_router_select(). */
    Returned<Selection> select(TokenIds token_ids, const RouteOptions &options = {}) const {
        const dynamo_route_options_t c = options.c();
        return selection(dynamo_router_select(get(), token_ids.data(), token_ids.size(), &c));
    }
    /** Chooses for an OpenAI body. Errors: those of dynamo_router_select_body(). */
    Returned<Selection> select_body(const std::string &request_json,
                                    const RouteOptions &options = {}) const {
        if (auto error = detail::check_text(request_json, "request_json")) {
            return detail::failed<Selection>(std::move(*error));
        }
        const dynamo_route_options_t c = options.c();
        return selection(dynamo_router_select_body(get(), request_json.c_str(), &c));
    }
    /** Books a request on the workers of a selection. Errors: those of dynamo_router_reserve(). */
    Returned<void> reserve(const std::string &request_id, const Selection &selection,
                           const RouteOptions &options = {}) const {
        const dynamo_route_options_t c = options.c();
        return detail::done(dynamo_router_reserve(get(), request_id.c_str(), selection.get(), &c));
    }
    /** Says that the first token of a booked request has come. Errors: those of
     * dynamo_router_prefill_complete(). */
    Returned<void> prefill_complete(const std::string &request_id) const {
        return detail::done(dynamo_router_prefill_complete(get(), request_id.c_str()));
    }
    /** Says that its answer has filled one more block. Errors: those of dynamo_router_output_block(). */
    Returned<void> output_block(const std::string &request_id, double decay = 1) const {
        return detail::done(dynamo_router_output_block(get(), request_id.c_str(), decay));
    }
    /** Says that it has ended. Errors: those of dynamo_router_free(). */
    Returned<void> free(const std::string &request_id) const {
        return detail::done(dynamo_router_free(get(), request_id.c_str()));
    }
    /** JSON: what each worker would have to do. Errors: those of dynamo_router_loads(). */
    Returned<std::string> loads(TokenIds token_ids = {nullptr, 0},
                                const RouteOptions &options = {}) const {
        const dynamo_route_options_t c = options.c();
        return detail::owned_text(
            dynamo_router_loads(get(), token_ids.data(), token_ids.size(), &c));
    }
    /** JSON: how many blocks of a prompt each worker has. Errors: those of dynamo_router_overlaps(). */
    Returned<std::string> overlaps(TokenIds token_ids, const RouteOptions &options = {}) const {
        const dynamo_route_options_t c = options.c();
        return detail::owned_text(
            dynamo_router_overlaps(get(), token_ids.data(), token_ids.size(), &c));
    }
    /** JSON: the workers that are there. Errors: those of dynamo_router_workers(). */
    Returned<std::string> workers() const {
        return detail::owned_text(dynamo_router_workers(get()));
    }
    /** Adds a worker to a router without a cluster, or changes it. Errors: those of
     * dynamo_router_upsert_worker(). */
    Returned<void> upsert_worker(const std::string &worker_json) const {
        return detail::done(dynamo_router_upsert_worker(get(), worker_json.c_str()));
    }
    /** Takes a worker out. Errors: those of dynamo_router_delete_worker(). */
    Returned<void> delete_worker(std::uint64_t worker_id) const {
        return detail::done(dynamo_router_delete_worker(get(), worker_id));
    }

  private:
    static Returned<Selection> selection(dynamo_selection_t *found) {
        if (found == nullptr) {
            return detail::failed<Selection>(Error::last());
        }
        return Selection(found);
    }

    std::unique_ptr<dynamo_router_t, detail::DestroyRouter> handle_;
};

}  // namespace dynamo_llm

#endif  // DYNAMO_LLM_CLUSTER_HPP
