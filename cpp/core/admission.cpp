// SPDX-License-Identifier: Apache-2.0
#include "core/admission.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"

namespace dynamo {

bool Admission::has_place_for(std::uint64_t tokens) const {
    if (limits_.concurrent > 0 && running_ >= limits_.concurrent) {
        return false;
    }
    // A request that is larger than the limit runs alone.
    return limits_.tokens == 0 || running_ == 0 || running_tokens_ + tokens <= limits_.tokens;
}

void Admission::run(Entry &entry) {
    entry.runs = true;
    ++running_;
    running_tokens_ += entry.tokens;
}

bool Admission::admit(std::shared_ptr<Request> request, const Model &model, std::uint64_t tokens,
                      std::int64_t priority) {
    // Nobody overtakes those that wait already.
    const bool runs = waiting() == 0 && has_place_for(tokens);
    if (!runs && waiting() >= limits_.queued) {
        throw Failure(DYNAMO_ERROR_OVERLOADED,
                      std::to_string(running_) + " requests are running and " +
                          std::to_string(waiting()) +
                          " are waiting, as many as \"limits\" of the configuration allow; try "
                          "again later");
    }
    Request *const key = request.get();
    Entry &entry = requests_[key];
    entry = {std::move(request), &model, tokens, priority, false};
    if (runs) {
        run(entry);
    }
    return runs;
}

void Admission::enqueue(Request *request) {
    const auto found = requests_.find(request);
    if (found == requests_.end() || found->second.runs) {
        return;  // it ended meanwhile
    }
    const Place place{-found->second.priority, arrivals_++};
    const auto known = places_.emplace(request, place).first;
    try {
        queue_.emplace(place, request);
    } catch (...) {
        places_.erase(known);
        throw;
    }
}

std::shared_ptr<Request> Admission::leave(Request *request) {
    const auto found = requests_.find(request);
    if (found == requests_.end()) {
        return nullptr;
    }
    Entry entry = std::move(found->second);
    requests_.erase(found);
    if (entry.runs) {
        --running_;
        running_tokens_ -= entry.tokens;
    }
    if (const auto place = places_.find(request); place != places_.end()) {
        queue_.erase(place->second);
        places_.erase(place);
    }
    return std::move(entry.request);
}

std::shared_ptr<Request> Admission::next() {
    if (queue_.empty()) {
        return nullptr;
    }
    Request *const request = queue_.begin()->second;
    Entry &entry = requests_.at(request);
    if (!has_place_for(entry.tokens)) {
        return nullptr;
    }
    queue_.erase(queue_.begin());
    places_.erase(request);
    run(entry);
    return entry.request;
}

std::size_t Admission::count(const Model &model, bool runs) const {
    return static_cast<std::size_t>(std::count_if(
        requests_.begin(), requests_.end(),
        [&](const auto &item) { return item.second.model == &model && item.second.runs == runs; }));
}

}  // namespace dynamo
