// SPDX-License-Identifier: Apache-2.0
#include "stream/dispatcher.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "base/platform.hpp"

namespace dynamo::dispatcher {
namespace {

thread_local constinit bool runs_callbacks = false;

class Dispatcher {
  public:
    Dispatcher() {
        platform::start_thread("dynamo-callback", [this] { run(); });
    }

    // Allocates nothing, because an event that cannot be queued would be lost.
    void post(std::shared_ptr<Deliverable> item) noexcept {
        const std::lock_guard lock(mutex_);
        if (std::exchange(item->awaits_delivery, true)) {
            return;
        }
        Deliverable *const added = item.get();
        (last_ == nullptr ? first_ : last_->next_to_deliver) = std::move(item);
        last_ = added;
        changed_.notify_one();
    }

  private:
    void run() {
        runs_callbacks = true;
        while (true) {
            std::shared_ptr<Deliverable> item = next();
            ThreadReplacement replacement{*this, item};
            // One event per turn, so that a fast stream does not starve the others.
            bool has_more = true;
            try {
                has_more = item->deliver();
            } catch (const std::exception &) {
                // deliver() has taken nothing; memory, or a handle, may become available.
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            replacement.is_needed = false;
            if (has_more) {
                post(std::move(item));
            }
        }
    }

    // Starts another thread if a callback ends this one.
    struct ThreadReplacement {
        Dispatcher &dispatcher;
        std::shared_ptr<Deliverable> &item;
        bool is_needed = true;
        ~ThreadReplacement() {
            if (is_needed) {
                dispatcher.post(std::move(item));
                platform::replace_thread("dynamo-callback", [&self = dispatcher] { self.run(); });
            }
        }
    };

    std::shared_ptr<Deliverable> next() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return first_ != nullptr; });
        std::shared_ptr<Deliverable> item = std::move(first_);
        first_ = std::move(item->next_to_deliver);
        if (first_ == nullptr) {
            last_ = nullptr;
        }
        item->awaits_delivery = false;
        return item;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::shared_ptr<Deliverable> first_;
    Deliverable *last_ = nullptr;
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
