// SPDX-License-Identifier: Apache-2.0
#include "python/cluster.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <dynamo_llm/cluster.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/gil.hpp"
#include "python/held.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dynamo::python {
namespace {

using KvPublisher = Held<dynamo_llm::KvPublisher>;
using Router = Held<dynamo_llm::Router>;
using Worker = Held<dynamo_llm::Worker>;
using dynamo_llm::KvStored;
using dynamo_llm::RouteOptions;

// The data of a selected worker that Python keeps.
struct ChosenWorker {
    std::uint64_t worker_id;
    std::uint32_t data_parallel_rank;
    std::uint32_t overlap_blocks;
    std::optional<std::string> address;
};

struct Selection {
    dynamo_llm::Selection c;
};

// Reads the numbers from the bytes of an array.array("I") or array.array("Q").
template <class Number>
std::vector<Number> numbers_of(const nb::bytes &array) {
    std::vector<Number> numbers(array.size() / sizeof(Number));
    if (!numbers.empty()) {
        std::memcpy(numbers.data(), array.data(), numbers.size() * sizeof(Number));
    }
    return numbers;
}

dynamo_llm::TokenIds ids_of(const nb::bytes &array) {
    return {static_cast<const std::uint32_t *>(array.data()), array.size() / sizeof(std::uint32_t)};
}

std::optional<ChosenWorker> kept(const std::optional<dynamo_llm::ChosenWorker> &chosen) {
    if (!chosen.has_value()) {
        return std::nullopt;
    }
    std::optional<std::string> address;
    if (!chosen->address.empty()) {
        address = std::string(chosen->address);
    }
    return ChosenWorker{chosen->worker_id, chosen->data_parallel_rank, chosen->overlap_blocks,
                        std::move(address)};
}

// Creates a wrapper's object in place, without the GIL, because creating it may wait.
template <class Wrapper, class Object>
void create(Wrapper *self, const std::string &config_json) {
    Object made(nullptr);
    {
        const Released released;
        made = Object(config_json);
    }
    new (self) Wrapper(std::move(made));
}

// Converts a timeout from Python, where -1 means no timeout.
std::chrono::milliseconds time_of(std::int64_t timeout_ms) {
    return timeout_ms < 0 ? dynamo_llm::forever : std::chrono::milliseconds(timeout_ms);
}

void bind_worker(nb::module_ &m) {
    nb::class_<Worker>(m, "Worker")
        .def("__init__", &create<Worker, dynamo_llm::Worker>, "config_json"_a)
        .def(
            "info",
            [](const Worker &self) {
                const Released released;
                return self.object.info();
            },
            "What there is to know at present, as JSON.")
        .def(
            "shutdown",
            [](const Worker &self, std::int64_t timeout_ms) {
                const Released released;
                self.object.shutdown(time_of(timeout_ms));
            },
            "timeout_ms"_a, "Leave the cluster; -1 waits for ever for what is in flight.")
        .def(
            "wait",
            [](const Worker &self, std::int64_t timeout_ms) {
                const Released released;
                return self.object.wait(time_of(timeout_ms));
            },
            "timeout_ms"_a, "Whether it stopped in time.")
        .def(
            "publish_load",
            [](const Worker &self, std::uint32_t data_parallel_rank,
               std::optional<std::int64_t> active_decode_blocks,
               std::optional<std::int64_t> kv_used_blocks) {
                self.object.publish_load(
                    {data_parallel_rank, active_decode_blocks, kv_used_blocks});
            },
            "data_parallel_rank"_a, "active_decode_blocks"_a.none(), "kv_used_blocks"_a.none(),
            "Tell routers what it has to do.")
        .def("close", &Worker::close, "Give the worker up.");
}

void bind_kv_publisher(nb::module_ &m) {
    nb::class_<KvStored>(m, "KvStored")
        .def(
            "__init__",
            [](KvStored *self, const nb::bytes &token_ids, const nb::bytes &block_hashes,
               std::optional<std::uint64_t> parent_hash, const std::string &lora_name,
               const std::string &cache_salt) {
                new (self) KvStored{numbers_of<std::uint32_t>(token_ids),
                                    numbers_of<std::uint64_t>(block_hashes),
                                    parent_hash,
                                    lora_name,
                                    cache_salt,
                                    0};
            },
            "token_ids"_a, "block_hashes"_a, "parent_hash"_a.none(), "lora_name"_a, "cache_salt"_a);

    nb::class_<KvPublisher>(m, "KvPublisher")
        .def("__init__", &create<KvPublisher, dynamo_llm::KvPublisher>, "config_json"_a)
        .def(
            "info",
            [](const KvPublisher &self) {
                const Released released;
                return self.object.info();
            },
            "What there is to know at present, as JSON.")
        .def(
            "stored",
            [](const KvPublisher &self, const KvStored &event) {
                return self.object.stored(event);
            },
            "event"_a, "Blocks were computed; False if the queue is full.")
        .def(
            "removed",
            [](const KvPublisher &self, const nb::bytes &block_hashes) {
                return self.object.removed(numbers_of<std::uint64_t>(block_hashes));
            },
            "block_hashes"_a, "Blocks were dropped; False if the queue is full.")
        .def(
            "cleared", [](const KvPublisher &self) { return self.object.cleared(); },
            "All blocks were dropped; False if the queue is full.")
        .def(
            "publish_many",
            [](const KvPublisher &self, const nb::list &events) {
                std::vector<dynamo_llm::KvEvent> all;
                for (const nb::handle event : events) {
                    if (nb::isinstance<KvStored>(event)) {
                        all.emplace_back(nb::cast<const KvStored &>(event));
                    } else if (nb::isinstance<nb::bytes>(event)) {
                        all.emplace_back(dynamo_llm::KvRemoved{
                            numbers_of<std::uint64_t>(nb::borrow<nb::bytes>(event))});
                    } else {
                        all.emplace_back(dynamo_llm::KvCleared{});
                    }
                }
                return self.object.publish_many(all);
            },
            "events"_a,
            nb::sig("def publish_many(self, events: list[KvStored | bytes | None]) -> bool"),
            "KvStored, hashes that were removed, None for cleared; False if the queue is full.")
        .def(
            "flush",
            [](const KvPublisher &self, std::int64_t timeout_ms) {
                const Released released;
                return self.object.flush(std::chrono::milliseconds(timeout_ms));
            },
            "timeout_ms"_a, "Whether all was handed over in time.")
        .def(
            "statistics", [](const KvPublisher &self) { return self.object.statistics(); },
            "Counters, as JSON.")
        .def(
            "hashes",
            [](const KvPublisher &self, const nb::bytes &token_ids, const std::string &lora_name,
               const std::string &cache_salt) {
                const Released released;
                return self.object.hashes(ids_of(token_ids), lora_name, cache_salt);
            },
            "token_ids"_a, "lora_name"_a, "cache_salt"_a, "Hashes of the blocks of a prompt.")
        .def("close", &KvPublisher::close, "Give the publisher up.");
}

void bind_router(nb::module_ &m) {
    nb::class_<ChosenWorker>(m, "ChosenWorker", "A worker that was chosen.")
        .def_ro("worker_id", &ChosenWorker::worker_id, "Its id: in a cluster, the instance id.")
        .def_ro("data_parallel_rank", &ChosenWorker::data_parallel_rank, "Its data parallel rank.")
        .def_ro("overlap_blocks", &ChosenWorker::overlap_blocks,
                "Blocks of the prompt that it has.")
        .def_ro("address", &ChosenWorker::address, "Where it serves; None if that is not known.")
        .def("__repr__", [](const ChosenWorker &self) {
            return "ChosenWorker(worker_id=" + std::to_string(self.worker_id) +
                   ", data_parallel_rank=" + std::to_string(self.data_parallel_rank) +
                   ", overlap_blocks=" + std::to_string(self.overlap_blocks) + ")";
        });

    nb::class_<Selection>(m, "Selection", "The workers for a request.")
        .def_prop_ro(
            "worker", [](const Selection &self) { return kept(self.c.worker()); },
            "Who answers; None if only a worker for the prompt was asked for.")
        .def_prop_ro(
            "prefill_worker", [](const Selection &self) { return kept(self.c.prefill_worker()); },
            "Who computes the prompt, if that is another one.")
        .def_prop_ro(
            "token_ids",
            [](const Selection &self) {
                const dynamo_llm::TokenIds ids = self.c.token_ids();
                return std::vector<std::uint32_t>(ids.begin(), ids.end());
            },
            "The prompt.")
        .def("__repr__", [](const Selection &self) {
            const auto said = [](const std::optional<dynamo_llm::ChosenWorker> &worker) {
                return worker.has_value() ? std::to_string(worker->worker_id) : std::string("None");
            };
            return "Selection(worker=" + said(self.c.worker()) +
                   ", prefill_worker=" + said(self.c.prefill_worker()) + ")";
        });

    nb::class_<RouteOptions>(m, "RouteOptions")
        .def(
            "__init__",
            [](RouteOptions *self, std::int32_t phase, const std::string &request_id,
               const nb::bytes &worker_ids, const std::string &lora_name,
               const std::string &cache_salt, std::uint32_t strict_priority, double priority_jump,
               std::uint64_t expected_output_tokens, const std::string &constraints_json) {
                new (self) RouteOptions{static_cast<dynamo_llm::RoutePhase>(phase),
                                        request_id,
                                        numbers_of<std::uint64_t>(worker_ids),
                                        lora_name,
                                        cache_salt,
                                        strict_priority,
                                        priority_jump,
                                        expected_output_tokens,
                                        constraints_json};
            },
            "phase"_a, "request_id"_a, "worker_ids"_a, "lora_name"_a, "cache_salt"_a,
            "strict_priority"_a, "priority_jump"_a, "expected_output_tokens"_a,
            "constraints_json"_a);

    nb::class_<Router>(m, "Router")
        .def("__init__", &create<Router, dynamo_llm::Router>, "config_json"_a)
        .def(
            "info", [](const Router &self) { return self.object.info(); },
            "What there is to know, as JSON.")
        .def(
            "select",
            [](const Router &self, const nb::bytes &token_ids, const RouteOptions &options) {
                const Released released;
                return Selection{self.object.select(ids_of(token_ids), options)};
            },
            "token_ids"_a, "options"_a, "Choose for a prompt.")
        .def(
            "select_body",
            [](const Router &self, const std::string &request_json, const RouteOptions &options) {
                const Released released;
                return Selection{self.object.select_body(request_json, options)};
            },
            "request_json"_a, "options"_a, "Choose for an OpenAI body.")
        .def(
            "reserve",
            [](const Router &self, const std::string &request_id, const Selection &selection,
               const RouteOptions &options) {
                const Released released;
                self.object.reserve(request_id, selection.c, options);
            },
            "request_id"_a, "selection"_a, "options"_a, "Book a request.")
        .def(
            "prefill_complete",
            [](const Router &self, const std::string &request_id) {
                const Released released;
                self.object.prefill_complete(request_id);
            },
            "request_id"_a, "The first token has come.")
        .def(
            "output_block",
            [](const Router &self, const std::string &request_id, double decay) {
                const Released released;
                self.object.output_block(request_id, decay);
            },
            "request_id"_a, "decay"_a, "The answer has filled one more block.")
        .def(
            "free",
            [](const Router &self, const std::string &request_id) {
                const Released released;
                self.object.free(request_id);
            },
            "request_id"_a, "The request has ended.")
        .def(
            "loads",
            [](const Router &self, const nb::bytes &token_ids, const RouteOptions &options) {
                const Released released;
                return self.object.loads(ids_of(token_ids), options);
            },
            "token_ids"_a, "options"_a, "What each worker would have to do, as JSON.")
        .def(
            "overlaps",
            [](const Router &self, const nb::bytes &token_ids, const RouteOptions &options) {
                const Released released;
                return self.object.overlaps(ids_of(token_ids), options);
            },
            "token_ids"_a, "options"_a, "How many blocks of a prompt each worker has, as JSON.")
        .def(
            "workers",
            [](const Router &self) {
                const Released released;
                return self.object.workers();
            },
            "The workers that are there, as JSON.")
        .def(
            "upsert_worker",
            [](const Router &self, const std::string &worker_json) {
                const Released released;
                self.object.upsert_worker(worker_json);
            },
            "worker_json"_a, "Add a worker, or change it.")
        .def(
            "delete_worker",
            [](const Router &self, std::uint64_t worker_id) {
                const Released released;
                self.object.delete_worker(worker_id);
            },
            "worker_id"_a, "Take a worker out.")
        .def("close", &Router::close, "Give the router up.");
}

}  // namespace

void bind_cluster(nb::module_ &m) {
    bind_worker(m);
    bind_kv_publisher(m);
    bind_router(m);
}

}  // namespace dynamo::python
