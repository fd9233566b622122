// SPDX-License-Identifier: Apache-2.0
// A runtime: models, and the requests in their engines.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/handle.hpp"
#include "runtime/admission.hpp"
#include "runtime/config.hpp"
#include "runtime/model.hpp"

namespace dynamo {

class Request;

class Runtime : public std::enable_shared_from_this<Runtime> {
  public:
    // Throws Failure. call: the C function, for the error where this thread must not wait.
    static std::shared_ptr<Runtime> create(const RuntimeConfig &config,
                                           const char *call = "dynamo_runtime_create()");

    // Waits for requests, cancels the remaining ones, and stops the engines. Returns "" if nothing had to be cancelled
    // and all engines stopped, otherwise a description. Throws Failure with INVALID_STATE where this thread must not
    // wait.
    std::string shutdown(std::optional<Clock::time_point> until);

    // The caller destroyed the handle. Waits until the engines have stopped, unless this thread must not wait or
    // requests are in flight.
    void abandon();

    // Runs a control call, and waits for its result, which is JSON. timeout_ms: -1 for no limit. Throws Failure.
    std::string call(const char *name, std::string_view arguments, std::int64_t timeout_ms);

    // Whether one of the engines belongs to a host; see base/wait_check.hpp.
    bool is_hosted() const noexcept;

    json::OrderedJson statistics() const;
    json::OrderedJson models() const;  // OpenAI's list of models
    std::string metrics() const;       // in the format of Prometheus

    // --- the requests' side ---
    // Returns the model that a body names. Throws Failure with MODEL_NOT_FOUND.
    Model &model_for(const Body &body) const;
    // Returns true if the request may go to the engine now; otherwise call enqueue() once it can be started. Throws
    // Failure with CLOSED or OVERLOADED.
    bool admit(const std::shared_ptr<Request> &request, Model &model, const Body &body);
    void enqueue(Request *request);
    // The engine has released a request, or will not get it.
    void dismiss(Request *request, std::uint64_t pushed, std::uint64_t full);
    // Exists while the end of a request is being published; shutdown() waits for it.
    class Publication {
      public:
        explicit Publication(std::shared_ptr<Runtime> runtime);
        ~Publication();
        Publication(const Publication &) = delete;

      private:
        const std::shared_ptr<Runtime> runtime_;
    };
    void count_sent() { sent_.fetch_add(1, std::memory_order_relaxed); }
    void count_end(std::int32_t status);
    void count_received(std::uint64_t tokens);
    const StreamLimits &stream_limits() const { return stream_limits_; }
    const Limits &limits() const { return limits_; }

  private:
    explicit Runtime(const RuntimeConfig &config);
    void start_queued(std::unique_lock<std::mutex> &lock);
    void stop_engines();
    // Where engines are stopped if the system has no thread for it: in this thread, or later, by the next shutdown(),
    // destroy or create. An engine's thread must not be blocked.
    enum class IfNoThread { here, later };
    void stop_engines_if_idle(std::unique_lock<std::mutex> &lock, IfNoThread otherwise);
    // Stops the engines that were left for later.
    static void stop_unstopped();
    void cancel_all(std::unique_lock<std::mutex> &lock);
    std::string engine_names() const;
    bool is_being_called()
        const noexcept;  // this thread is inside a function of one of the engines
    void require_may_wait(bool has_deadline);
    bool wait_until_stopped(std::unique_lock<std::mutex> &lock, Clock::time_point until);

    std::vector<std::unique_ptr<Model>> models_;  // filled by create()
    const StreamLimits stream_limits_;
    const Limits limits_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool closed_ = false;  // accepts no more requests
    enum class EngineState { running, stopping, stopped } engine_state_ = EngineState::running;
    bool is_unstopped_ = false;  // in the list of runtimes to be stopped later
    std::shared_ptr<Runtime> next_unstopped_;
    int publications_ = 0;
    Admission admission_;

    std::uint64_t pushed_tokens_ = 0;
    std::uint64_t times_full_ = 0;
    std::atomic<std::uint64_t> sent_{0};
    std::atomic<std::uint64_t> received_tokens_{0};
    std::atomic<std::uint64_t> ended_{0};
    std::atomic<std::uint64_t> cancelled_{0};
    std::atomic<std::uint64_t> failed_{0};
};

template <>
struct HandleTraits<Runtime> {
    using CType = dynamo_runtime_t;
    static constexpr HandleKind kind = HandleKind::runtime;
};

}  // namespace dynamo
