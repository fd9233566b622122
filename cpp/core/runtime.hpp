// SPDX-License-Identifier: Apache-2.0
// Models, and the requests in their engines.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/admission.hpp"
#include "core/config.hpp"
#include "core/handle.hpp"
#include "core/model.hpp"

namespace dynamo {

class Request;

class Runtime : public std::enable_shared_from_this<Runtime> {
  public:
    // Throws Failure.
    static std::shared_ptr<Runtime> create(const Config &config);

    // Waits, cancels what is left, stops the engine. Empty if all went by itself, else what did
    // not.
    std::string shutdown(std::optional<Clock::time_point> until);

    // The caller destroyed the handle.
    void abandon();

    json::OrderedJson statistics() const;
    json::OrderedJson models() const;  // OpenAI's list
    std::string metrics() const;       // for Prometheus

    // --- for requests ---
    // The model that a body names. Throws Failure with MODEL_NOT_FOUND.
    Model &model_for(const Body &body) const;
    // True if it may go to the engine now; else it waits: enqueue() it when it can be started.
    // Throws Failure with CLOSED or OVERLOADED.
    bool admit(const std::shared_ptr<Request> &request, Model &model, const Body &body);
    void enqueue(Request *request);
    // The engine let go of a request, or it will not get it.
    void dismiss(Request *request, std::uint64_t pushed, std::uint64_t full);
    // Lives while an end is on its way from the engine to the caller; shutdown() waits for it.
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
    explicit Runtime(const Config &config);
    void start_waiting(std::unique_lock<std::mutex> &lock);
    void stop_engines();
    // What is done if the system has no thread for it: a caller of shutdown or destroy may be kept
    // waiting, an engine's thread may not: shutdown() and destroy try again.
    enum class IfNoThread { here, later };
    void stop_engines_if_idle(std::unique_lock<std::mutex> &lock, IfNoThread otherwise);
    // Tries again what later was put off to.
    static void stop_unstopped();
    void cancel_all(std::unique_lock<std::mutex> &lock);
    std::string engine_names() const;
    bool wait_until_stopped(std::unique_lock<std::mutex> &lock, Clock::time_point until);

    std::vector<std::unique_ptr<Model>> models_;  // filled by create()
    const StreamLimits stream_limits_;
    const Limits limits_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool closed_ = false;  // takes no more requests
    enum class EngineState { running, stopping, stopped } engine_state_ = EngineState::running;
    bool is_unstopped_ = false;  // in the list of those to be stopped later
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
