// SPDX-License-Identifier: Apache-2.0
#include "runtime/creation.hpp"

#include <new>
#include <utility>

#include "base/callback.hpp"
#include "base/platform.hpp"
#include "base/wait_check.hpp"
#include "runtime/runtime.hpp"

namespace dynamo {
namespace {

Error creation_cancelled() noexcept {
    return make_error(DYNAMO_ERROR_CANCELLED, [] {
        return std::string("the creation of the runtime was cancelled: its caller asked for it");
    });
}

}  // namespace

Creation::Creation(dynamo_creation_callback_t callback, void *user,
                   dynamo_release_callback_t release)
    : callback_(callback), user_(user), release_(release) {
    if (callback == nullptr) {
        reject_argument("the callback is NULL");
    }
}

void Creation::start(RuntimeConfig config) {
    dispatcher::start();
    platform::start_thread("dynamo-create", [self = shared_from_this(),
                                             config = std::move(config)] { self->run(config); });
}

void Creation::run(const RuntimeConfig &config) {
    // Ends the creation even if an engine ends this thread.
    struct Ended {
        Creation &creation;
        bool is_due = true;
        ~Ended() {
            if (is_due) {
                creation.end(nullptr, make_error(DYNAMO_ERROR_ENGINE_FAILED, [] {
                                 return std::string(
                                     "the engine's start function ended the thread that called it");
                             }));
            }
        }
    };
    Ended ended{*this};
    const start_progress::Scope scope(*this);
    std::shared_ptr<Runtime> runtime;
    Error error;
    try {
        runtime = Runtime::create(config, "dynamo_runtime_create_async()");
    }
    DYNAMO_RETHROW_THREAD_EXIT
    catch (const Failure &failure) {
        error = failure.error();
    }
    catch (const std::bad_alloc &) {
        error = Error{.status = DYNAMO_ERROR_OUT_OF_MEMORY};
    }
    catch (const std::exception &exception) {
        error = make_error(DYNAMO_ERROR_INTERNAL,
                           [&] { return std::string("unexpected: ") + exception.what(); });
    }
    ended.is_due = false;
    if (!end(runtime, std::move(error)) && runtime != nullptr) {
        runtime->abandon();
    }
}

bool Creation::end(const std::shared_ptr<Runtime> &runtime, Error error) noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(has_ended_, true)) {
            return false;
        }
        runtime_ = runtime;
        error_ = std::move(error);
    }
    dispatcher::post(shared_from_this());
    return true;
}

void Creation::cancel() noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(has_ended_, true)) {
            return;
        }
        error_ = creation_cancelled();
        progress_.clear();
    }
    dispatcher::post(shared_from_this());
}

void Creation::abandon() noexcept {
    {
        const std::lock_guard lock(mutex_);
        is_abandoned_ = true;
        has_ended_ = true;
    }
    dispatcher::post(shared_from_this());
}

bool Creation::wait(std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    if (!is_over_ && (!until || *until > Clock::now())) {
        lock.unlock();
        require_may_wait();
        lock.lock();
    }
    return wait_until(over_, lock, until, [this] { return is_over_; });
}

void Creation::require_may_wait() const {
    constexpr const char *call = "dynamo_creation_wait()";
    wait_check::require_allowed(call, true);
    if (dispatcher::is_this_thread()) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE,
                      std::string(call) +
                          " was called in a callback of the library, whose thread delivers the "
                          "events of the creation; call it in another thread, or take the runtime "
                          "from the final event");
    }
    if (start_progress::is_receiver(*this)) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE,
                      std::string(call) +
                          " was called in the start function of the engine that is being started, "
                          "for whose return it would wait; call it in another thread");
    }
}

bool Creation::is_cancelled() const {
    const std::lock_guard lock(mutex_);
    return has_ended_;
}

bool Creation::on_progress(Progress progress) {
    {
        const std::lock_guard lock(mutex_);
        if (has_ended_) {
            return false;
        }
        const bool replaces = !progress_.empty() && (progress_.size() == max_pending ||
                                                     (progress_.back().phase == progress.phase &&
                                                      progress_.back().model == progress.model));
        if (replaces) {
            progress_.back() = std::move(progress);
        } else {
            progress_.push_back(std::move(progress));
        }
    }
    dispatcher::post(shared_from_this());
    return true;
}

bool Creation::deliver() {
    handles::Reservation reservation;  // may throw, so before anything is taken
    std::unique_lock lock(mutex_);
    if (is_released_) {
        return false;
    }
    if (is_abandoned_ || end_was_called_) {
        lock.unlock();
        return release();
    }
    if (!progress_.empty()) {
        const Progress progress = std::move(progress_.front());
        progress_.pop_front();
        lock.unlock();
        deliver_progress(progress);
        return true;
    }
    if (!has_ended_) {
        return false;
    }
    if (runtime_ == nullptr && error_json_.empty()) {  // may throw, too
        error_json_ = error_.json();
        if (error_.message.empty()) {  // there was no memory for it
            error_.message = status_name(error_.status);
        }
    }
    end_was_called_ = true;
    lock.unlock();
    deliver_end(reservation);
    return true;  // the release comes next
}

bool Creation::invoke(const dynamo_creation_event_t &event) {
    return callback::call("callback of dynamo_runtime_create_async()",
                          [&] { callback_(user_, &event); });
}

void Creation::deliver_progress(const Progress &progress) {
    const dynamo_progress_t filled = {sizeof filled,       progress.phase.c_str(),
                                      progress.bytes_done, progress.bytes_total,
                                      progress.fraction,   progress.model.c_str()};
    dynamo_creation_event_t event{};
    event.struct_size = sizeof event;
    event.status = DYNAMO_PENDING;
    event.progress = &filled;
    if (!invoke(event)) {
        cancel();
    }
}

void Creation::deliver_end(handles::Reservation &reservation) {
    dynamo_creation_event_t event{};
    event.struct_size = sizeof event;
    const std::shared_ptr<Runtime> runtime = std::exchange(runtime_, nullptr);
    if (runtime != nullptr) {
        event.runtime = open_handle(reservation, runtime);
        if (!invoke(event) && close_handle<Runtime>(event.runtime)) {
            runtime->abandon();
        }
        return;
    }
    event.status = error_.status;
    event.error = error_.message.c_str();
    event.error_json = error_json_.c_str();
    invoke(event);
}

bool Creation::release() {
    // Ends the waits even if the release callback ends this thread.
    struct Over {
        Creation &creation;
        ~Over() {
            const std::lock_guard lock(creation.mutex_);
            creation.is_over_ = true;
            creation.over_.notify_all();
        }
    };
    const Over over{*this};
    std::shared_ptr<Runtime> unwanted;
    {
        const std::lock_guard lock(mutex_);
        is_released_ = true;
        unwanted = std::exchange(runtime_, nullptr);
    }
    if (unwanted != nullptr) {
        unwanted->abandon();
    }
    if (release_ != nullptr) {
        callback::call("release callback of dynamo_runtime_create_async()",
                       [this] { release_(user_); });
    }
    return false;
}

}  // namespace dynamo
