// SPDX-License-Identifier: Apache-2.0
#include "engines/player.hpp"

#include "base/platform.hpp"

namespace dynamo::engines {

Play::Step Play::step(dynamo_stream_t *stream) {
    for (int turn = 0; turn < 64; ++turn) {
        if (const std::optional<Step> other = before_push(stream)) {
            return *other;
        }
        const std::int32_t pushed = push(stream);
        if (pushed == DYNAMO_PENDING) {
            return {Next::when_writable};
        }
        if (pushed == DYNAMO_ERROR_CANCELLED) {
            return finish(stream);
        }
        if (pushed != DYNAMO_OK) {
            dynamo_stream_fail(stream, pushed, dynamo_last_error(), nullptr);
            return {Next::done};
        }
    }
    return {Next::at, Clock::now()};
}

std::shared_ptr<Player> Player::create(const char *thread_name) {
    const auto player = std::make_shared<Player>();
    platform::start_thread(thread_name, [player] { player->run(); });
    return player;
}

void Player::schedule(Entry &entry, Clock::time_point when) noexcept {
    if (!entry.is_scheduled) {
        entry.is_scheduled = true;
        entry.place.key() = when;
        entry.due = due_.insert(std::move(entry.place));
        changed_.notify_one();
    }
}

void Player::unschedule(Entry &entry) noexcept {
    if (entry.is_scheduled) {
        entry.is_scheduled = false;
        entry.place = due_.extract(entry.due);
    }
}

void Player::play(dynamo_stream_t *stream, std::unique_ptr<Play> play) {
    const std::lock_guard lock(mutex_);
    auto entry = std::make_shared<Entry>();
    entry->play = std::move(play);
    Due alone;
    alone.emplace(Clock::now(), stream);
    entry->place = alone.extract(alone.begin());
    const auto added = entries_.emplace(stream, std::move(entry)).first;
    schedule(*added->second, Clock::now());
}

void Player::wake(dynamo_stream_t *stream) {
    const std::lock_guard lock(mutex_);
    if (const auto found = entries_.find(stream); found != entries_.end()) {
        found->second->is_writable = true;
        schedule(*found->second, Clock::now());
    }
}

void Player::cancel(dynamo_stream_t *stream) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(stream);
    if (found == entries_.end()) {
        return;
    }
    found->second->is_cancelled = true;
    unschedule(*found->second);  // its next step may be due much later
    schedule(*found->second, Clock::time_point::min());
}

void Player::stop() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return stopped_; });
}

void Player::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        if (due_.empty()) {
            changed_.wait(lock);
            continue;
        }
        if (const auto next = due_.begin()->first; Clock::now() < next) {
            changed_.wait_until(lock, next);
            continue;
        }
        dynamo_stream_t *const stream = due_.begin()->second;
        const std::shared_ptr<Entry> entry = entries_.at(stream);
        unschedule(*entry);
        entry->is_writable = false;
        const bool is_cancelled = entry->is_cancelled;
        lock.unlock();
        Play::Step step{Play::Next::done};
        if (is_cancelled) {
            dynamo_stream_finish(stream, nullptr, nullptr);
        } else {
            try {
                step = entry->play->step(stream);
            } catch (const std::exception &error) {
                dynamo_stream_fail(stream, DYNAMO_ERROR_OUT_OF_MEMORY, error.what(), nullptr);
            }
        }
        lock.lock();
        if (step.next == Play::Next::done) {
            unschedule(*entry);  // wake() may have scheduled it during this step
            entries_.erase(stream);
        } else if (step.next == Play::Next::at) {
            schedule(*entry, step.when);
        } else if (step.next == Play::Next::when_writable && entry->is_writable) {
            schedule(*entry, Clock::now());
        }
    }
    stopped_ = true;
    changed_.notify_all();
}

}  // namespace dynamo::engines
