// SPDX-License-Identifier: Apache-2.0
// Delivery of responses to a callback or a queue.
#include "base/callback.hpp"
#include "runtime/request.hpp"
#include "runtime/runtime.hpp"

namespace dynamo {

void Request::set_callback(dynamo_response_callback_t callback, void *user,
                           dynamo_release_callback_t release) {
    if (callback == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "the callback is NULL");
    }
    dispatcher::start();
    std::unique_lock lock(mutex_);
    require_unsent("the callback");
    if (abandoned_) {  // by another thread meanwhile, which saw no callback to release
        throw Failure(DYNAMO_ERROR_INVALID_HANDLE, "the request was destroyed");
    }
    require_no_delivery();
    callback_ = callback;
    callback_user_ = user;
    callback_release_ = release;
    lock.unlock();
    if (stream_.is_end_claimed()) {  // it was cancelled before it was sent
        stream_.notify_owner(Stream::Notify::always);
    }
}

void Request::set_queue(std::shared_ptr<Queue> queue, void *user) {
    {
        const std::lock_guard lock(mutex_);
        require_unsent("the queue");
        require_no_delivery();
        queue_ = std::move(queue);
        queue_user_ = user;
    }
    stream_.notify_owner(Stream::Notify::always);  // it may be cancelled before it is sent
}

void Request::require_no_delivery() const {
    if (callback_ != nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE, "the request already has a callback");
    }
    if (queue_ != nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE, "the request already has a queue");
    }
}

bool Request::has_callback() const {
    const std::lock_guard lock(mutex_);
    return callback_ != nullptr;
}

void Request::on_ready() {
    if (queue_ != nullptr) {
        queue_->post(shared_from_this());
    } else {
        dispatcher::post(shared_from_this());
    }
}

void Request::on_urgent() {
    if (queue_ != nullptr) {
        queue_->wake_pollers();
    }
}

bool Request::deliver() {
    std::unique_lock lock(mutex_);
    const auto ready = std::exchange(ready_callback_, nullptr);
    void *const ready_user = ready_user_;
    const bool has_callback = callback_ != nullptr;
    lock.unlock();
    if (ready != nullptr) {
        if (!callback::call("callback of dynamo_request_notify()", [&] { ready(ready_user); })) {
            cancel("its callback threw an exception");
        }
        // A request that was cancelled before it was sent may have a response callback, too: it comes next.
        return has_callback;
    }
    if (!has_callback || callback_done_) {
        return false;
    }
    if (!abandoned_) {
        handles::Reservation reservation;  // may throw, so before anything is taken
        std::shared_ptr<Response> response;
        bool has_more = false;
        const std::int32_t status = stream_.take_next(response, has_more);
        if (status == DYNAMO_PENDING) {
            return false;
        }
        if (status == DYNAMO_OK) {
            // Checked again: this may be the end that abandon() caused.
            if (!abandoned_) {
                runtime()->count_received(response->tokens);
                dynamo_response_t *const handle = open_handle(reservation, std::move(response));
                invoke_callback(handle, status);
            }
            return has_more;
        }
        if (!abandoned_ && !std::exchange(end_was_called_, true)) {
            invoke_callback(nullptr, status);
        }
    }
    callback_done_ = true;
    if (callback_release_ != nullptr) {
        callback::call("release callback of dynamo_request_set_callback()",
                       [this] { callback_release_(callback_user_); });
    }
    return false;
}

void Request::invoke_callback(dynamo_response_t *response, std::int32_t status) {
    if (!callback::call("callback of dynamo_request_set_callback()",
                        [&] { callback_(callback_user_, handle_, response, status); })) {
        cancel("its callback threw an exception");
    }
}

bool Request::take_event(Queue::Event &event, bool &has_more) {
    has_more = false;
    if (abandoned_) {
        return false;
    }
    event.status = stream_.take_next(event.response, has_more);
    if (event.status == DYNAMO_PENDING) {
        return false;
    }
    if (event.status == DYNAMO_OK) {
        runtime()->count_received(event.response->tokens);
    }
    event.request = handle_;
    event.user = queue_user_;
    return true;
}

}  // namespace dynamo
