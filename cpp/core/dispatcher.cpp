// SPDX-License-Identifier: Apache-2.0
#include "core/dispatcher.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "core/log.hpp"
#include "core/platform.hpp"
#include "core/request.hpp"

namespace dynamo::dispatcher {
namespace {

class Dispatcher {
  public:
    Dispatcher() {
        platform::start_thread("dynamo-callback", [this] { run(); });
    }

    // Allocates nothing: an event that could not be queued would be lost.
    void post(std::shared_ptr<Request> request) noexcept {
        const std::lock_guard lock(mutex_);
        if (std::exchange(request->waits_for_delivery, true)) {
            return;
        }
        Request *const added = request.get();
        (last_ == nullptr ? first_ : last_->next_to_deliver) = std::move(request);
        last_ = added;
        changed_.notify_one();
    }

  private:
    [[noreturn]] void run() {
        while (true) {
            std::shared_ptr<Request> request = next();
            // One event a turn, so that a fast stream does not keep the others waiting.
            bool has_more = true;
            try {
                has_more = request->deliver();
            } catch (const std::bad_alloc &) {
                // Nothing is lost; there may be memory again.
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            } catch (const std::exception &error) {
                give_up(*request, error.what());
            } catch (...) {
                give_up(*request, "a callback threw something that is no std::exception");
            }
            if (has_more) {
                post(std::move(request));
            }
        }
    }

    std::shared_ptr<Request> next() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return first_ != nullptr; });
        std::shared_ptr<Request> request = std::move(first_);
        first_ = std::move(request->next_to_deliver);
        if (first_ == nullptr) {
            last_ = nullptr;
        }
        request->waits_for_delivery = false;
        return request;
    }

    static void give_up(Request &request, const char *why) {
        log::write(DYNAMO_LOG_ERROR, "dynamo_llm.callback", why);
        request.cancel("its responses could not be delivered");
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::shared_ptr<Request> first_;
    Request *last_ = nullptr;
};

// Leaked: the thread lives as long as the process.
Dispatcher &instance() {
    static Dispatcher *const dispatcher = new Dispatcher;
    return *dispatcher;
}

}  // namespace

void start() {
    instance();
}

void post(std::shared_ptr<Request> request) {
    instance().post(std::move(request));
}

}  // namespace dynamo::dispatcher
