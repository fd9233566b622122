// SPDX-License-Identifier: Apache-2.0
#include "services/kv_event_queue.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.hpp"
#include "stream/dispatcher.hpp"

namespace dynamo {
namespace {

// Bounds the size of a command: the asyncio event loop parses it, which delays everything else on the loop.
constexpr std::uint64_t blocks_of_command = 2048;

// Returns how many blocks the worker has, as reported in the answer to a command; `before` without memory to read it.
std::uint64_t stored_of(const std::string &answer, std::uint64_t before) noexcept {
    try {
        return json::parse(answer, "answer").at("stored").get<std::uint64_t>();
    } catch (const std::exception &) {
        return before;
    }
}

}  // namespace

bool KvEventQueue::publish(KvEvents given) {
    if (given.events == 0) {
        return true;
    }
    std::unique_lock lock(mutex_);
    // Events larger than the whole queue are accepted when the queue is empty.
    if (queued_blocks_ > 0 && queued_blocks_ + given.blocks > bound_) {
        return false;
    }
    queued_events_ += given.events;
    queued_blocks_ += given.blocks;
    if (!waiting_.empty() && waiting_.back().blocks + given.blocks <= blocks_of_command) {
        waiting_.back().append(given);
    } else {
        waiting_.push_back(std::move(given));
    }
    send_next();
    unlock_and_log(lock);
    return true;
}

void KvEventQueue::send_next() {
    while (!is_busy_ && !waiting_.empty() && service_ != nullptr) {
        KvEvents next = std::move(waiting_.front());
        waiting_.pop_front();
        const std::string command = "{\"publish\":[" + std::exchange(next.json, {}) + "]}";
        is_busy_ = true;
        try {
            service_->post(command, [queue = shared_from_this(), next](const Error *error,
                                                                       const std::string &answer) {
                queue->on_answer(next, error, answer);
            });
        } catch (const Failure &failure) {
            is_busy_ = false;
            fail(failure.error(), next);
        }
    }
}

void KvEventQueue::on_answer(const KvEvents &events, const Error *error,
                             const std::string &answer) {
    std::unique_lock lock(mutex_);
    if (error != nullptr) {
        fail(*error, events);
    } else {
        queued_events_ -= events.events;
        queued_blocks_ -= events.blocks;
        published_ += events.events;
        stored_ = stored_of(answer, stored_);
    }
    // Logs before flush() returns: its caller may then remove the log callback.
    unlock_and_log(lock);
    lock.lock();
    is_busy_ = false;
    send_next();
    if (!is_busy_) {
        idle_.notify_all();
    }
    unlock_and_log(lock);
}

void KvEventQueue::fail(const Error &error, const KvEvents &events) {
    queued_events_ -= events.events;
    queued_blocks_ -= events.blocks;
    failed_ += events.events;
    if (!failure_.has_value()) {
        failure_ = error;
        unlogged_ = "KV events could not be published: " + error.message;
    }
}

void KvEventQueue::unlock_and_log(std::unique_lock<std::mutex> &lock) {
    const std::string text = std::exchange(unlogged_, {});
    lock.unlock();
    if (!text.empty()) {
        log::write(DYNAMO_LOG_WARNING, "dynamo_llm.kv_publisher", text.c_str());
    }
}

bool KvEventQueue::flush(std::optional<Clock::time_point> deadline) {
    std::unique_lock lock(mutex_);
    const auto is_idle = [&] { return !is_busy_ && waiting_.empty(); };
    if (!is_idle() && (!deadline.has_value() || *deadline > Clock::now())) {
        service_->require_may_wait();
        if (dispatcher::is_this_thread()) {  // the thread that delivers the answers
            throw Failure(
                DYNAMO_ERROR_INVALID_STATE,
                "dynamo_kv_publisher_flush() was called in a callback, whose thread it would "
                "wait for; call it in another thread");
        }
    }
    if (!deadline.has_value()) {
        idle_.wait(lock, is_idle);
    } else if (!idle_.wait_until(lock, *deadline, is_idle)) {
        return false;
    }
    if (failure_.has_value()) {
        Error error = *std::exchange(failure_, std::nullopt);
        throw Failure(std::move(error));
    }
    return true;
}

std::string KvEventQueue::statistics() {
    const std::lock_guard lock(mutex_);
    return json::dump(json::OrderedJson{{"published_events", published_},
                                        {"queued_events", queued_events_},
                                        {"queued_blocks", queued_blocks_},
                                        {"failed_events", failed_},
                                        {"stored_blocks", stored_}});
}

}  // namespace dynamo
