// SPDX-License-Identifier: Apache-2.0
// Who may go to an engine, who waits, and who is refused. Not thread-safe: the runtime's mutex guards
// it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/config.hpp"

namespace dynamo {

class Model;
class Request;

class Admission {
  public:
    explicit Admission(const Limits &limits) : limits_(limits) {}

    // True if the request may run now, false if it must wait. Throws Failure with OVERLOADED.
    bool admit(std::shared_ptr<Request> request, const Model &model, std::uint64_t tokens,
               std::int64_t priority);
    // A request that must wait is ready to be started.
    void enqueue(Request *request);
    // A request is over; nullptr if it is not here.
    std::shared_ptr<Request> leave(Request *request);
    // The next of those that wait, if there is a place for it: it runs from now on. Else nullptr.
    std::shared_ptr<Request> next();

    bool is_empty() const { return requests_.empty(); }
    std::size_t running() const { return running_; }
    std::size_t waiting() const { return requests_.size() - running_; }
    std::size_t running(const Model &model) const { return count(model, true); }
    std::size_t waiting(const Model &model) const { return count(model, false); }

    struct Entry {
        std::shared_ptr<Request> request;
        const Model *model;
        std::uint64_t tokens;
        std::int64_t priority;
        bool runs;
    };
    const std::unordered_map<Request *, Entry> &requests() const { return requests_; }

  private:
    bool has_place_for(std::uint64_t tokens) const;
    void run(Entry &entry);
    std::size_t count(const Model &model, bool runs) const;

    const Limits limits_;
    std::unordered_map<Request *, Entry> requests_;
    // The highest priority first, and among equals the first that came.
    using Place = std::pair<std::int64_t, std::uint64_t>;
    std::map<Place, Request *> queue_;
    std::unordered_map<Request *, Place> places_;
    std::uint64_t arrivals_ = 0;
    std::size_t running_ = 0;
    std::uint64_t running_tokens_ = 0;
};

}  // namespace dynamo
