// SPDX-License-Identifier: Apache-2.0
// Workers, KV publishers and routers: ownership, and errors without Python. With a router's configuration as the
// argument, it also uses that router (tests/python/cluster/test_static_router.py).
#include <dynamo_llm/cluster.hpp>

#include "support.hpp"

using dynamo_llm::KvPublisher;
using dynamo_llm::KvStored;
using dynamo_llm::RouteOptions;
using dynamo_llm::Router;
using dynamo_llm::Selection;
using dynamo_llm::Worker;

template <class Object>
constexpr bool is_move_only =
    std::is_nothrow_move_constructible_v<Object> && std::is_nothrow_move_assignable_v<Object> &&
    !std::is_copy_constructible_v<Object> && !std::is_copy_assignable_v<Object>;
static_assert(is_move_only<KvPublisher> && is_move_only<Router> && is_move_only<Selection> &&
              is_move_only<Worker>);
static_assert(sizeof(KvPublisher) == sizeof(void *) && sizeof(Router) == sizeof(void *) &&
              sizeof(Worker) == sizeof(void *));
static_assert(!std::is_default_constructible_v<Worker> && !std::is_default_constructible_v<Router>);
static_assert(!std::is_convertible_v<std::string, Router> &&
              !std::is_convertible_v<dynamo_router_t *, Router>);

static void configurations_are_checked() {
    // Python checks the keys.
    for (const Error &error : {error_of([] { return Router::create("[]"); }),
                               error_of([] { return KvPublisher::create("[]"); }),
                               error_of([] { return Worker::create("[]"); })}) {
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_CONFIG);
        CHECK_CONTAINS(error.what(), "object");
    }
    CHECK_CONTAINS(error_of([] { return Router::create(std::string("{}\0", 3)); }).what(),
                   "config_json has a NUL byte at position 2");
}

static void empty_ones_are_errors() {
    const Router router(nullptr);
    const KvPublisher publisher(nullptr);
    CHECK(!router && !publisher && router.get() == nullptr);
    CHECK_STATUS(error_of([&] { return router.select({}); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return router.info(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return router.free("x"); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    const Worker worker(nullptr);
    CHECK(!worker && worker.get() == nullptr);
    CHECK_STATUS(error_of([&] { return worker.info(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return worker.wait(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return worker.wait(milliseconds(1)); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return worker.shutdown(milliseconds(1)); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return worker.publish_load({}); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return publisher.stored(KvStored()); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return publisher.publish_many({}); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return publisher.flush(milliseconds(1)); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
}

// Relies on earlier tests: in this thread, one create of each kind has failed.
static void empty_ones_repeat_a_failed_create() {
    for (const Error &error : {error_of([] { return Router(nullptr).workers(); }),
                               error_of([] { return KvPublisher(nullptr).cleared(); }),
                               error_of([] { return Worker(nullptr).info(); })}) {
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_CONFIG);
        CHECK_CONTAINS(error.what(), "object");
    }
}

static void nul_bytes_are_errors() {
    const Router router(nullptr);
    const std::string bad("a\0b", 3);
    for (const Error &error : {error_of([&] { return router.free(bad); }),
                               error_of([&] { return router.prefill_complete(bad); }),
                               error_of([&] { return router.output_block(bad); }),
                               error_of([&] { return router.upsert_worker(bad); }),
                               error_of([&] { return router.select_body(bad); }),
                               error_of([&] { return router.reserve(bad, Selection(nullptr)); }),
                               error_of([&] { return Worker::create(bad); }),
                               error_of([&] { return KvPublisher::create(bad); })}) {
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(error.what(), "has a NUL byte at position 1");
    }
}

// Tests every string in options and events, in every function that takes them.
static void nul_bytes_in_members_are_errors() {
    const auto check = [](const Error &error, const char *name) {
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(error.what(), (std::string(name) + " has a NUL byte at position 0").c_str());
    };
    const std::string bad("\0b", 2);
    const Router router(nullptr);
    const Selection none(nullptr);
    const std::pair<const char *, std::string RouteOptions::*> members[] = {
        {"request_id", &RouteOptions::request_id},
        {"lora_name", &RouteOptions::lora_name},
        {"cache_salt", &RouteOptions::cache_salt},
        {"constraints_json", &RouteOptions::constraints_json}};
    for (const auto &[name, member] : members) {
        RouteOptions options;
        options.*member = bad;
        check(error_of([&, &text = options] { return router.select({}, text); }), name);
        check(error_of([&, &text = options] { return router.select_body("{}", text); }), name);
        check(error_of([&, &text = options] { return router.reserve("r", none, text); }), name);
        check(error_of([&, &text = options] { return router.loads({}, text); }), name);
        check(error_of([&, &text = options] { return router.overlaps({}, text); }), name);
    }
    const KvPublisher publisher(nullptr);
    const std::pair<const char *, std::string KvStored::*> texts[] = {
        {"lora_name", &KvStored::lora_name}, {"cache_salt", &KvStored::cache_salt}};
    for (const auto &[name, member] : texts) {
        KvStored stored;
        stored.*member = bad;
        check(error_of([&, &event = stored] { return publisher.stored(event); }), name);
        check(error_of([&, &event = stored] {
                  return publisher.publish_many({dynamo_llm::KvCleared(), event});
              }),
              name);
    }
    check(error_of([&] { return publisher.hashes({}, bad, {}); }), "lora_name");
    check(error_of([&] { return publisher.hashes({}, {}, bad); }), "cache_salt");
}

// Routes over the workers 1 and 2, which have no blocks cached.
static void a_whole_round(const char *config) {
    const Router router = MUST(Router::create(config));
    const std::vector<std::uint32_t> prompt(64, 7);
    const TokenIds ids(prompt.data(), prompt.size());
    RouteOptions options;
    options.worker_ids = {2};
    options.request_id = "r";
    const Selection selection = MUST(router.select(ids, options));
    CHECK(selection.worker().has_value() && !selection.prefill_worker().has_value());
    CHECK(selection.worker()->worker_id == 2 && selection.worker()->address == "http://w2:1");
    CHECK(selection.token_ids().size() == 64 && selection.token_ids()[63] == 7);
    CHECK_CONTAINS(MUST(router.loads()).c_str(), "\"active_requests\": 1");
    MUST(router.prefill_complete("r"));
    MUST(router.output_block("r"));
    MUST(router.free("r"));
    CHECK_STATUS(error_of([&] { return router.free("r"); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    MUST(router.reserve("again", selection));
    MUST(router.free("again"));
    CHECK(MUST(router.select(ids)).worker().has_value());
    CHECK_CONTAINS(MUST(router.overlaps(ids)).c_str(), "\"device_blocks\": 0");
    MUST(router.delete_worker(2));
    CHECK(MUST(router.workers()).find("\"worker_id\": 2") == std::string::npos);
    CHECK_STATUS(error_of([&] { return router.select(ids, options); }).status(),
                 DYNAMO_ERROR_UNAVAILABLE);
    CHECK_CONTAINS(std::string(MUST(router.info())).c_str(), "\"kv_block_size\":16");
}

int main(int count, char **words) {
    empty_ones_are_errors();
    configurations_are_checked();
    empty_ones_repeat_a_failed_create();
    nul_bytes_are_errors();
    nul_bytes_in_members_are_errors();
    if (count > 1) {
        a_whole_round(words[1]);
    }
    return 0;
}
