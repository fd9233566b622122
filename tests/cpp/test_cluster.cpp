// SPDX-License-Identifier: Apache-2.0
// Workers, KV publishers and routers: who owns what, and what is said without Python. With a router's configuration as an
// argument, a whole round over it: see tests/python/test_cluster_told_router.py.
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
static_assert(!std::is_convertible_v<std::string, Router> &&
              !std::is_convertible_v<dynamo_router_t *, Router>);

static void configurations_are_checked() {
    const Error of_router = error_of([] { return Router::create("{\"kv_blok_size\": 16}"); });
    CHECK_STATUS(of_router.status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(of_router.what(), "did you mean \"kv_block_size\"?");
    const Error of_publisher =
        error_of([] { return KvPublisher::create("{\"endpont\": \"a.b\"}"); });
    CHECK_STATUS(of_publisher.status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(of_publisher.what(), "did you mean \"endpoint\"?");
    const Error of_worker = error_of([] { return Worker::create("{\"endpoint\": \"a.b\"}"); });
    CHECK_STATUS(of_worker.status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(of_worker.what(), "\"runtime\" of the configuration is missing");
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

// Over two workers, 1 and 2, of which nobody has anything.
static void a_whole_round(const char *config) {
    const Router router = MUST(Router::create(config));
    const std::vector<std::uint32_t> prompt(64, 7);
    const TokenIds ids(prompt.data(), prompt.size());
    RouteOptions options;
    options.workers = {2};
    options.request_id = "r";
    const Selection selection = MUST(router.select(ids, options));
    CHECK(selection.worker().has_value() && !selection.prefill_worker().has_value());
    CHECK(selection.worker()->id == 2 && selection.worker()->address == "http://w2:1");
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
    configurations_are_checked();
    empty_ones_are_errors();
    if (count > 1) {
        a_whole_round(words[1]);
    }
    return 0;
}
