// SPDX-License-Identifier: Apache-2.0
#include "stream/timer.hpp"

#include <condition_variable>
#include <map>
#include <mutex>
#include <unordered_map>

#include "base/callback.hpp"
#include "base/platform.hpp"

namespace dynamo::timer {
namespace {

class Timer {
  public:
    Timer() {
        platform::start_thread("dynamo-timer", [this] { run(); });
    }

    Id at(Clock::time_point when, std::function<void()> function) {
        const std::lock_guard lock(mutex_);
        const Id id = ++last_id_;
        const auto known = by_id_.emplace(id, due_.end()).first;
        Due::iterator entry;
        try {
            entry = due_.emplace(when, Entry{id, std::move(function)});
        } catch (...) {
            by_id_.erase(known);
            throw;
        }
        known->second = entry;
        if (entry == due_.begin()) {
            changed_.notify_one();
        }
        return id;
    }

    void cancel(Id id) {
        Due::node_type cancelled;  // destroyed without the lock
        const std::lock_guard lock(mutex_);
        if (const auto found = by_id_.find(id); found != by_id_.end()) {
            cancelled = due_.extract(found->second);
            by_id_.erase(found);
        }
    }

  private:
    struct Entry {
        Id id;
        std::function<void()> function;
    };
    using Due = std::multimap<Clock::time_point, Entry>;

    // Starts another thread if a function ends this one.
    struct ThreadReplacement {
        Timer &timer;
        bool is_needed = true;
        ~ThreadReplacement() {
            if (is_needed) {
                platform::replace_thread("dynamo-timer", [&self = timer] { self.run(); });
            }
        }
    };

    void run() {
        std::unique_lock lock(mutex_);
        while (true) {
            if (due_.empty()) {
                changed_.wait(lock);
            } else if (const auto next = due_.begin()->first; Clock::now() < next) {
                changed_.wait_until(lock, next);
            } else {
                Due::node_type entry = due_.extract(due_.begin());
                by_id_.erase(entry.mapped().id);
                lock.unlock();
                {
                    ThreadReplacement replacement{*this};
                    callback::call("timer", [&] { entry.mapped().function(); });
                    entry = {};
                    replacement.is_needed = false;
                }
                lock.lock();
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    Due due_;
    std::unordered_map<Id, Due::iterator> by_id_;
    Id last_id_ = 0;
};

// Never freed: the thread lives as long as the process.
Timer &timer() {
    static Timer *const instance = new Timer;
    return *instance;
}

}  // namespace

Id at(Clock::time_point when, std::function<void()> function) {
    return timer().at(when, std::move(function));
}

void cancel(Id id) noexcept {
    timer().cancel(id);
}

}  // namespace dynamo::timer
