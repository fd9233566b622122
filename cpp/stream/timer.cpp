// SPDX-License-Identifier: Apache-2.0
#include "stream/timer.hpp"

#include <condition_variable>
#include <map>
#include <mutex>

#include "base/callback.hpp"
#include "base/platform.hpp"

namespace dynamo::timer {
namespace {

using Due = std::map<Id, std::function<void()>>;

struct Timer {
    Timer() {
        platform::start_permanent_thread("dynamo-timer", [this] { run(); });
    }

    void run() {
        std::unique_lock lock(mutex);
        while (true) {
            if (due.empty()) {
                changed.wait(lock);
            } else if (const auto next = due.begin()->first.first; Clock::now() < next) {
                changed.wait_until(lock, next);
            } else {
                Due::node_type entry = due.extract(due.begin());
                lock.unlock();
                callback::call("timer", [&] { entry.mapped()(); });
                entry = {};
                lock.lock();
            }
        }
    }

    std::mutex mutex;
    std::condition_variable changed;
    Due due;
    std::uint64_t last_number = 0;
};

// Never freed: the thread lives as long as the process.
Timer &the_timer() {
    static Timer *const instance = new Timer;
    return *instance;
}

}  // namespace

Id at(Clock::time_point when, std::function<void()> function) {
    Timer &timer = the_timer();
    const std::lock_guard lock(timer.mutex);
    const auto entry = timer.due.emplace(Id(when, ++timer.last_number), std::move(function)).first;
    if (entry == timer.due.begin()) {
        timer.changed.notify_one();
    }
    return entry->first;
}

void cancel(const Id &id) noexcept {
    Timer &timer = the_timer();
    Due::node_type cancelled;  // destroyed without the lock
    const std::lock_guard lock(timer.mutex);
    cancelled = timer.due.extract(id);
}

}  // namespace dynamo::timer
