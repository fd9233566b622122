// SPDX-License-Identifier: Apache-2.0
// Admission control: which requests run, which are queued, and which are refused. Guarded by the runtime's mutex.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include "runtime/config.hpp"

namespace dynamo {

class Model;
class Request;

class Admission {
  public:
    explicit Admission(const Limits &limits) : limits_(limits) {}

    // Returns true if the request runs now, false if it is to be queued. Throws Failure with OVERLOADED.
    bool admit(std::shared_ptr<Request> request, const Model &model, std::uint64_t tokens,
               std::int64_t priority);
    // Adds a control call, which runs at once, in addition to the requests.
    void admit_call(std::shared_ptr<Request> call, const Model &model);
    // Queues a request for which admit() returned false, once it can be started.
    void enqueue(Request *request);
    // Removes a finished request. Returns nullptr if it is unknown.
    std::shared_ptr<Request> remove(Request *request);
    // Starts the next queued request if it has a slot. Returns nullptr otherwise.
    std::shared_ptr<Request> start_next();

    bool is_empty() const { return requests_.empty(); }
    std::size_t running() const { return running_; }
    std::size_t queued() const { return requests_.size() - running_ - calls_; }
    std::size_t running(const Model &model) const { return count(model, true); }
    std::size_t queued(const Model &model) const { return count(model, false); }

    struct QueuePosition {
        std::int64_t priority;
        std::uint64_t arrival;
        // The highest priority first, and among equals the one that arrived first.
        bool operator<(const QueuePosition &other) const {
            return priority != other.priority ? priority > other.priority : arrival < other.arrival;
        }
    };
    struct Entry {
        std::shared_ptr<Request> request;
        const Model *model;
        std::uint64_t tokens;
        std::int64_t priority;
        bool is_running = false;
        bool is_call = false;
        std::optional<QueuePosition> position = {};  // while it is queued
    };
    const std::unordered_map<Request *, Entry> &requests() const { return requests_; }

  private:
    bool has_slot_for(std::uint64_t tokens) const;
    void start(Entry &entry);
    std::size_t count(const Model &model, bool is_running) const;

    const Limits limits_;
    std::unordered_map<Request *, Entry> requests_;
    std::map<QueuePosition, Request *> queue_;
    std::uint64_t arrivals_ = 0;
    std::size_t running_ = 0;
    std::size_t calls_ = 0;
    std::uint64_t running_tokens_ = 0;
};

}  // namespace dynamo
