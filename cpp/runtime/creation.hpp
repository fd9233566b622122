// SPDX-License-Identifier: Apache-2.0
// The creation of a runtime in a thread of its own.
//
// It has two lives, as a request has. The caller's ends with the final event: the runtime, an error, or a cancel. The
// thread's ends when the engine's start function returns; a runtime that nobody wants any more is then destroyed.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "base/handle.hpp"
#include "runtime/config.hpp"
#include "runtime/start_progress.hpp"
#include "stream/dispatcher.hpp"
#include "stream/timing.hpp"

namespace dynamo {

class Runtime;

class Creation final : public Deliverable,
                       public ProgressReceiver,
                       public std::enable_shared_from_this<Creation> {
  public:
    // Throws Failure with INVALID_ARGUMENT.
    Creation(dynamo_creation_callback_t callback, void *user, dynamo_release_callback_t release);

    // Starts the thread. Throws Failure with SYSTEM; then the release callback is not called.
    void start(RuntimeConfig config);

    // Ends the caller's life, unless it has ended.
    void cancel() noexcept;
    // The caller destroyed the handle: there are no more events.
    void abandon() noexcept;
    // Waits until no more events follow. Returns false at the timeout. Throws Failure with INVALID_STATE if it would
    // wait for the calling thread.
    bool wait(std::optional<Clock::time_point> until);

    // --- the thread's side ---
    bool on_progress(Progress progress) override;
    bool is_cancelled() const override;

    // --- the dispatcher's side ---
    bool deliver() override;

  private:
    void run(const RuntimeConfig &config);
    // Returns false if it had ended before; then nobody wants the runtime.
    bool end(const std::shared_ptr<Runtime> &runtime, Error error) noexcept;
    void deliver_progress(const Progress &progress);
    void deliver_end(handles::Reservation &reservation);
    void require_may_wait() const;
    bool release();
    bool invoke(const dynamo_creation_event_t &event);

    // A receiver that is late gets the latest progress of each phase; an engine with more phases than these loses some.
    static constexpr std::size_t max_pending = 16;

    const dynamo_creation_callback_t callback_;
    void *const user_;
    const dynamo_release_callback_t release_;

    mutable std::mutex mutex_;  // guards what follows; never held while foreign code runs
    std::deque<Progress> progress_;
    bool has_ended_ = false;
    std::shared_ptr<Runtime> runtime_;  // the result, until it is delivered
    Error error_;                       // if there is no runtime
    std::string error_json_;            // once it is delivered
    bool is_abandoned_ = false;
    bool end_was_called_ = false;
    bool is_released_ = false;
    bool is_over_ = false;  // the release callback has returned
    std::condition_variable over_;
};

template <>
struct HandleTraits<Creation> {
    using CType = dynamo_creation_t;
    static constexpr HandleKind kind = HandleKind::creation;
};

}  // namespace dynamo
