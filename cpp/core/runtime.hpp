// SPDX-License-Identifier: Apache-2.0
// An engine with a model, and the requests in it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/config.hpp"
#include "core/engine_registry.hpp"
#include "core/handle.hpp"

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

    // --- for requests ---
    // Throws Failure with CLOSED.
    void admit(const std::shared_ptr<Request> &request);
    // The engine let go of a request.
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
    Engine &engine() { return *engine_; }
    const StreamLimits &stream_limits() const { return limits_; }
    const std::string &model() const { return model_; }

  private:
    Runtime(std::shared_ptr<Engine> engine, const Config &config);
    void stop_engine_if_idle(std::unique_lock<std::mutex> &lock);
    bool wait_until_stopped(std::unique_lock<std::mutex> &lock, Clock::time_point until);

    const std::shared_ptr<Engine> engine_;
    const StreamLimits limits_;
    const std::string model_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool closed_ = false;  // takes no more requests
    enum class EngineState { running, stopping, stopped } engine_state_ = EngineState::running;
    int publications_ = 0;
    std::unordered_map<Request *, std::shared_ptr<Request>> in_flight_;

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
