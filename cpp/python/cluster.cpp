// SPDX-License-Identifier: Apache-2.0
// Binds the classes of dynamo_llm/cluster.hpp for Python programs: workers, KV publishers, and routers.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <dynamo_llm/cluster.hpp>
#include <optional>
#include <string>
#include <vector>

#include "python/arguments.hpp"
#include "python/bindings.hpp"
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
using dynamo_llm::Selection;

// A copy of a selected worker, which Python may keep longer than the selection.
struct ChosenWorker {
    std::uint64_t worker_id;
    std::uint32_t data_parallel_rank;
    std::uint32_t overlap_blocks;
    std::optional<std::string> address;
};

// Reads the numbers from the bytes of an array.array("I") or array.array("Q").
template <class Number>
std::vector<Number> numbers_of(const nb::bytes &array) {
    const auto *const begin = static_cast<const Number *>(array.data());
    return {begin, begin + array.size() / sizeof(Number)};
}

std::optional<ChosenWorker> copy_of(const std::optional<dynamo_llm::ChosenWorker> &chosen) {
    if (!chosen) {
        return std::nullopt;
    }
    ChosenWorker copy{chosen->worker_id, chosen->data_parallel_rank, chosen->overlap_blocks, {}};
    if (!chosen->address.empty()) {
        copy.address = chosen->address;
    }
    return copy;
}

void bind_worker(nb::module_ &m) {
    nb::class_<Worker>(m, "Worker")
        .def(nb::init<const std::string &>(), "config_json"_a, without_gil)
        .def("info", Worker::method(&dynamo_llm::Worker::info), without_gil,
             "Returns the present state as JSON.")
        .def(
            "shutdown",
            [](const Worker &self, std::int64_t timeout_ms) {
                self.object.shutdown(time_of(timeout_ms));
            },
            "timeout_ms"_a, without_gil,
            "Leaves the cluster; requests in flight have this long to end (-1: no limit).")
        .def(
            "wait",
            [](const Worker &self, std::int64_t timeout_ms) {
                return self.object.wait(time_of(timeout_ms));
            },
            "timeout_ms"_a, without_gil,
            "Waits until the worker has stopped. Returns False at the timeout.")
        .def(
            "publish_load",
            [](const Worker &self, std::uint32_t data_parallel_rank,
               std::optional<std::int64_t> active_decode_blocks,
               std::optional<std::int64_t> kv_used_blocks) {
                self.object.publish_load(
                    {data_parallel_rank, active_decode_blocks, kv_used_blocks});
            },
            "data_parallel_rank"_a, "active_decode_blocks"_a.none(), "kv_used_blocks"_a.none(),
            "Publishes the load to routers.")
        .def("close", &Worker::close, "Releases the worker.");
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
        .def(nb::init<const std::string &>(), "config_json"_a, without_gil)
        .def("info", KvPublisher::method(&dynamo_llm::KvPublisher::info), without_gil,
             "Returns the present state as JSON.")
        .def("stored", KvPublisher::method(&dynamo_llm::KvPublisher::stored), "event"_a,
             "Publishes that blocks were computed. Returns False if the queue is full.")
        .def(
            "removed",
            [](const KvPublisher &self, const nb::bytes &block_hashes) {
                return self.object.removed(numbers_of<std::uint64_t>(block_hashes));
            },
            "block_hashes"_a,
            "Publishes that blocks were dropped. Returns False if the queue is full.")
        .def("cleared", KvPublisher::method(&dynamo_llm::KvPublisher::cleared),
             "Publishes that all blocks were dropped. Returns False if the queue is full.")
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
            "Publishes events: KvStored, the hashes of removed blocks, or None for cleared. "
            "Returns False if the queue is full.")
        .def(
            "flush",
            [](const KvPublisher &self, std::int64_t timeout_ms) {
                return self.object.flush(std::chrono::milliseconds(timeout_ms));
            },
            "timeout_ms"_a, without_gil,
            "Waits until everything was passed to NVIDIA Dynamo. Returns False at the timeout.")
        .def("statistics", KvPublisher::method(&dynamo_llm::KvPublisher::statistics),
             "Returns counters as JSON.")
        .def(
            "hashes",
            [](const KvPublisher &self, const nb::bytes &token_ids, const std::string &lora_name,
               const std::string &cache_salt) {
                return self.object.hashes(ids_of(token_ids), lora_name, cache_salt);
            },
            "token_ids"_a, "lora_name"_a, "cache_salt"_a, without_gil,
            "Returns the hashes of the full blocks of a prompt.")
        .def("close", &KvPublisher::close, "Releases the publisher.");
}

void bind_router(nb::module_ &m) {
    nb::class_<ChosenWorker>(m, "ChosenWorker", "A selected worker.")
        .def_ro("worker_id", &ChosenWorker::worker_id, "Its ID: in a cluster, its instance ID.")
        .def_ro("data_parallel_rank", &ChosenWorker::data_parallel_rank, "Its data parallel rank.")
        .def_ro("overlap_blocks", &ChosenWorker::overlap_blocks,
                "Number of blocks of the prompt that it has.")
        .def_ro("address", &ChosenWorker::address, "Where it serves; None if not known.")
        .def("__repr__", [](const ChosenWorker &self) {
            return nb::str("ChosenWorker(worker_id={}, data_parallel_rank={}, overlap_blocks={})")
                .format(self.worker_id, self.data_parallel_rank, self.overlap_blocks);
        });

    nb::class_<Selection>(m, "Selection", "The selected workers of a request.")
        .def_prop_ro(
            "worker", [](const Selection &self) { return copy_of(self.worker()); },
            "Generates the answer; None if only a worker for the prompt was requested.")
        .def_prop_ro(
            "prefill_worker", [](const Selection &self) { return copy_of(self.prefill_worker()); },
            "Computes the prompt; None if that is the same worker.")
        .def_prop_ro(
            "token_ids",
            [](const Selection &self) {
                const dynamo_llm::TokenIds ids = self.token_ids();
                return std::vector<std::uint32_t>(ids.begin(), ids.end());
            },
            "The prompt.")
        .def("__repr__", [](const Selection &self) {
            const auto id = [](const std::optional<dynamo_llm::ChosenWorker> &worker) {
                return worker ? std::optional(worker->worker_id) : std::nullopt;
            };
            return nb::str("Selection(worker={}, prefill_worker={})")
                .format(id(self.worker()), id(self.prefill_worker()));
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
        .def(nb::init<const std::string &>(), "config_json"_a, without_gil)
        .def("info", Router::method(&dynamo_llm::Router::info), "Returns the properties as JSON.")
        .def(
            "select",
            [](const Router &self, const nb::bytes &token_ids, const RouteOptions &options) {
                return self.object.select(ids_of(token_ids), options);
            },
            "token_ids"_a, "options"_a, without_gil, "Selects workers for a prompt.")
        .def("select_body", Router::method(&dynamo_llm::Router::select_body), "request_json"_a,
             "options"_a, without_gil, "Selects workers for an OpenAI body.")
        .def("reserve", Router::method(&dynamo_llm::Router::reserve), "request_id"_a, "selection"_a,
             "options"_a, without_gil, "Reserves the workers of a selection for a request.")
        .def("prefill_complete", Router::method(&dynamo_llm::Router::prefill_complete),
             "request_id"_a, without_gil, "Reports that the first token of a request has arrived.")
        .def("output_block", Router::method(&dynamo_llm::Router::output_block), "request_id"_a,
             "decay"_a, without_gil, "Reports that the answer has filled one more block.")
        .def("free", Router::method(&dynamo_llm::Router::free), "request_id"_a, without_gil,
             "Releases the reservation of a request that has ended.")
        .def(
            "loads",
            [](const Router &self, const nb::bytes &token_ids, const RouteOptions &options) {
                return self.object.loads(ids_of(token_ids), options);
            },
            "token_ids"_a, "options"_a, without_gil,
            "Returns the load that each worker would have, as JSON.")
        .def(
            "overlaps",
            [](const Router &self, const nb::bytes &token_ids, const RouteOptions &options) {
                return self.object.overlaps(ids_of(token_ids), options);
            },
            "token_ids"_a, "options"_a, without_gil,
            "Returns how many blocks of a prompt each worker has, as JSON.")
        .def("workers", Router::method(&dynamo_llm::Router::workers), without_gil,
             "Returns the live workers as JSON.")
        .def("upsert_worker", Router::method(&dynamo_llm::Router::upsert_worker), "worker_json"_a,
             without_gil, "Adds a worker, or changes it.")
        .def("delete_worker", Router::method(&dynamo_llm::Router::delete_worker), "worker_id"_a,
             without_gil, "Removes a worker.")
        .def("close", &Router::close, "Releases the router.");
}

}  // namespace

void bind_cluster(nb::module_ &m) {
    bind_worker(m);
    bind_kv_publisher(m);
    bind_router(m);
}

}  // namespace dynamo::python
