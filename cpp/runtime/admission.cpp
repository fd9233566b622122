// SPDX-License-Identifier: Apache-2.0
#include "runtime/admission.hpp"

#include <algorithm>
#include <string>

#include "base/error.hpp"

namespace dynamo {

bool Admission::has_slot_for(std::uint64_t tokens) const {
    if (limits_.concurrent > 0 && running_ >= limits_.concurrent) {
        return false;
    }
    // A request that exceeds the limit by itself runs alone.
    return limits_.tokens == 0 || running_ == 0 || running_tokens_ + tokens <= limits_.tokens;
}

void Admission::start(Entry &entry) {
    entry.is_running = true;
    ++running_;
    running_tokens_ += entry.tokens;
}

bool Admission::admit(std::shared_ptr<Request> request, const Model &model, std::uint64_t tokens,
                      std::int64_t priority) {
    // A new request does not overtake queued ones.
    const bool is_running = queued() == 0 && has_slot_for(tokens);
    if (!is_running && queued() >= limits_.queued) {
        throw Failure(DYNAMO_ERROR_OVERLOADED,
                      std::to_string(running_) + " requests are running and " +
                          std::to_string(queued()) +
                          " are queued, the most that \"limits\" of the configuration allows; "
                          "try again later");
    }
    Request *const key = request.get();
    Entry &entry = requests_[key];
    entry = {std::move(request), &model, tokens, priority};
    if (is_running) {
        start(entry);
    }
    return is_running;
}

void Admission::admit_call(std::shared_ptr<Request> call, const Model &model) {
    Request *const key = call.get();
    Entry &entry = requests_[key];
    entry = {std::move(call), &model, 0, 0};
    entry.is_call = true;
    ++calls_;
}

void Admission::enqueue(Request *request) {
    const auto found = requests_.find(request);
    if (found == requests_.end() || found->second.is_running || found->second.is_call) {
        return;  // it ended meanwhile
    }
    const QueuePosition position{found->second.priority, arrivals_++};
    queue_.emplace(position, request);
    found->second.position = position;
}

std::shared_ptr<Request> Admission::remove(Request *request) {
    const auto found = requests_.find(request);
    if (found == requests_.end()) {
        return nullptr;
    }
    Entry entry = std::move(found->second);
    requests_.erase(found);
    calls_ -= entry.is_call ? 1 : 0;
    if (entry.is_running) {
        --running_;
        running_tokens_ -= entry.tokens;
    }
    if (entry.position) {
        queue_.erase(*entry.position);
    }
    return std::move(entry.request);
}

std::shared_ptr<Request> Admission::start_next() {
    if (queue_.empty()) {
        return nullptr;
    }
    Request *const request = queue_.begin()->second;
    Entry &entry = requests_.at(request);
    if (!has_slot_for(entry.tokens)) {
        return nullptr;
    }
    queue_.erase(queue_.begin());
    entry.position.reset();
    start(entry);
    return entry.request;
}

std::size_t Admission::count(const Model &model, bool is_running) const {
    return static_cast<std::size_t>(
        std::count_if(requests_.begin(), requests_.end(), [&](const auto &item) {
            return item.second.model == &model && !item.second.is_call &&
                   item.second.is_running == is_running;
        }));
}

}  // namespace dynamo
