// SPDX-License-Identifier: Apache-2.0
#include "stream/dispatcher.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "base/platform.hpp"
#include "base/shared_list.hpp"

namespace dynamo::dispatcher {
namespace {

thread_local constinit bool runs_callbacks = false;

class Dispatcher {
  public:
    Dispatcher() {
        platform::start_permanent_thread("dynamo-callback", [this] { run(); });
    }

    // Allocates nothing, because an event that cannot be queued would be lost.
    void post(std::shared_ptr<Deliverable> item) noexcept {
        const std::lock_guard lock(mutex_);
        if (std::exchange(item->awaits_delivery, true)) {
            return;
        }
        items_.append(std::move(item));
        changed_.notify_one();
    }

  private:
    void run() {
        runs_callbacks = true;
        while (true) {
            std::shared_ptr<Deliverable> item = next();
            // One event per turn, so that a fast stream does not starve the others.
            Turn turn{*this, item};
            try {
                turn.has_more = item->deliver();
            } catch (const std::exception &) {
                // deliver() has taken nothing; memory, or a handle, may become available.
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        }
    }

    // Posts the item again if it has more events, or if a callback ends this thread.
    struct Turn {
        Dispatcher &dispatcher;
        std::shared_ptr<Deliverable> &item;
        bool has_more = true;
        ~Turn() {
            if (has_more) {
                dispatcher.post(std::move(item));
            }
        }
    };

    std::shared_ptr<Deliverable> next() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !items_.is_empty(); });
        std::shared_ptr<Deliverable> item = items_.pop();
        item->awaits_delivery = false;
        return item;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    SharedList<Deliverable, &Deliverable::next_to_deliver> items_;
};

// Never freed: the thread lives as long as the process.
Dispatcher &instance() {
    static Dispatcher *const dispatcher = new Dispatcher;
    return *dispatcher;
}

}  // namespace

void start() {
    instance();
}

bool is_this_thread() noexcept {
    return runs_callbacks;
}

void post(std::shared_ptr<Deliverable> item) {
    instance().post(std::move(item));
}

}  // namespace dynamo::dispatcher
