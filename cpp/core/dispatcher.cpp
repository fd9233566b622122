// SPDX-License-Identifier: Apache-2.0
#include "core/dispatcher.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>

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

    void post(std::shared_ptr<Request> request) {
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(request));
        changed_.notify_one();
    }

  private:
    [[noreturn]] void run() {
        while (true) {
            std::shared_ptr<Request> request;
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [this] { return !ready_.empty(); });
                request = std::move(ready_.front());
                ready_.pop_front();
            }
            // One event a turn, so that a fast stream does not keep the others waiting.
            try {
                if (request->deliver()) {
                    post(std::move(request));
                }
            } catch (const std::exception &error) {
                log::write(DYNAMO_LOG_ERROR, "dynamo_llm.callback", error.what());
                request->cancel("its responses could not be delivered");
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Request>> ready_;
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
