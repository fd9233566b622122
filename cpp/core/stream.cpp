// SPDX-License-Identifier: Apache-2.0
#include "core/stream.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace dynamo {

std::optional<Clock::time_point> after_ms(std::int64_t milliseconds) {
    if (milliseconds < 0) {
        return std::nullopt;
    }
    // A hundred years are for ever, and do not overflow the clock.
    constexpr std::int64_t longest = std::int64_t{100} * 365 * 24 * 3600 * 1000;
    return Clock::now() + std::chrono::milliseconds(std::min(milliseconds, longest));
}

void Stream::prepare(const StreamLimits &limits, std::shared_ptr<const ResponseHead> head,
                     std::uint32_t choices, Metrics &metrics) {
    const std::lock_guard lock(mutex_);
    limits_ = limits;
    head_ = std::move(head);
    choice_count_ = choices;
    metrics_ = &metrics;
    clock_ = {.sent = Clock::now(), .ended = clock_.ended};  // it may have been cancelled already
}

void Stream::hand_over() {
    const std::lock_guard lock(mutex_);
    clock_.handed = Clock::now();
    metrics_->queue.observe(clock_.handed - clock_.sent);
}

// With the lock.
void Stream::count_tokens(std::size_t tokens) {
    if (tokens == 0) {
        return;
    }
    const Clock::time_point now = Clock::now();
    if (clock_.first == Clock::time_point()) {
        clock_.first = now;
        metrics_->first_token.observe(now - clock_.sent);
    } else {
        metrics_->inter_token.observe((now - clock_.last) / tokens, tokens);
    }
    clock_.last = now;
    metrics_->count_tokens(tokens);
}

void Stream::reset() {
    const std::lock_guard lock(mutex_);
    first_choice_ = {};
    more_choices_.clear();
    queue_.reset();
    queued_tokens_ = 0;
    pushed_tokens_ = 0;
    times_full_ = 0;
    was_full_ = false;
    clock_ = {.ended = clock_.ended};  // as before it was sent
}

Stream::Choice &Stream::choice(std::uint32_t index) {
    if (index == 0) {
        return first_choice_;
    }
    if (more_choices_.size() < index) {
        more_choices_.resize(index);
    }
    return more_choices_[index - 1];
}

// The response at the end of the queue that more of this choice can be added to. A body that does
// not stream gathers each choice in one response; else only the last response is open, to keep
// order.
Response &Stream::open_response(std::uint32_t index) {
    if (queue_ == nullptr) {
        queue_ = std::make_unique<std::deque<std::shared_ptr<Response>>>();
    }
    const auto is_open = [&](const std::shared_ptr<Response> &response) {
        return response->index == index && response->finish_reason.empty();
    };
    if (head_->stream) {
        if (!queue_->empty() && is_open(queue_->back())) {
            return *queue_->back();
        }
    } else if (const auto found = std::find_if(queue_->begin(), queue_->end(), is_open);
               found != queue_->end()) {
        return **found;
    }
    auto response = std::make_shared<Response>();
    response->head = head_;
    response->index = index;
    response->is_first = !choice(index).has_started;
    choice(index).has_started = true;
    queue_->push_back(std::move(response));
    return *queue_->back();
}

// The queue may be there, and empty: when there was no memory for what was to come into it.
bool Stream::has_responses() const {
    return queue_ != nullptr && !queue_->empty();
}

// A response that only waits for the rest of a code point is nothing to take.
bool Stream::is_readable() const {
    if (ended_) {
        return true;
    }
    return has_responses() && head_->stream && (queue_->size() > 1 || !queue_->front()->is_empty());
}

// A code point that has not come whole must be let in: there is nothing to take before that.
bool Stream::is_full() const {
    return head_->stream && queued_tokens_ >= limits_.capacity && is_readable();
}

// Tells whoever waits for something to take. Called with the lock, which it gives up.
void Stream::announce(std::unique_lock<std::mutex> &lock) {
    if (!is_readable()) {
        return;
    }
    if (readers_waiting_ > 0) {
        if (ended_) {
            readable_.notify_all();
        } else {
            readable_.notify_one();
        }
    }
    if (notifier_ != nullptr) {
        notifier_->set();
    }
    if (telling_ != Telling::never && !announced_) {
        if (telling_ == Telling::once) {
            telling_ = Telling::never;
        } else {
            announced_ = true;
        }
        lock.unlock();
        owner_.on_ready();
    }
}

// Throws Failure unless it is what the request is about.
void Stream::check_data(const dynamo_chunk_t &chunk) const {
    const auto reject = [](const std::string &message) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
    };
    if (head_->kind != BodyKind::data) {
        reject("chunk.data is set, but the request is no request of data");
    }
    if (chunk.data->bytes == nullptr && chunk.data->length > 0) {
        reject("chunk.data->bytes is NULL");
    }
    if (chunk.data->kind == DYNAMO_DATA_JSON) {
        json::parse({static_cast<const char *>(chunk.data->bytes), chunk.data->length},
                    "chunk's data");
    } else if (chunk.data->kind != DYNAMO_DATA_BYTES) {
        reject("chunk.data->kind is " + std::to_string(chunk.data->kind) +
               "; it is DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES");
    }
}

Stream::Pushed Stream::push(const dynamo_chunk_t &chunk) {
    std::optional<json::Json> delta;
    std::optional<json::Json> logprobs;
    if (chunk.delta_json != nullptr) {
        delta =
            json::parse_object(chunk.delta_json, "chunk's delta", DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    if (chunk.logprobs_json != nullptr) {
        logprobs = json::parse_object(chunk.logprobs_json, "chunk's logprobs",
                                      DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    if (chunk.data != nullptr) {
        check_data(chunk);
    }
    std::unique_lock lock(mutex_);
    if (claimed_) {
        return Pushed::closed;
    }
    if (chunk.index >= choice_count_) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      "chunk.index is " + std::to_string(chunk.index) + ", but the request has " +
                          std::to_string(choice_count_) + " choice(s)");
    }
    // Whoever wants everything at once gets it; the request's max_tokens is the bound then.
    if (is_full()) {
        ++times_full_;
        metrics_->count_full();
        if (!limits_.fail_when_full) {
            was_full_ = true;
            return Pushed::full;
        }
        claimed_ = true;
        clock_.ended = Clock::now();
        if (writers_waiting_ > 0) {
            writable_.notify_all();
        }
        return Pushed::overflow;
    }
    Choice &its_choice = choice(chunk.index);
    Response &response = open_response(chunk.index);
    if (delta) {
        response.add_delta(std::move(*delta));
    }
    if (logprobs) {
        response.add_logprobs(std::move(*logprobs));
    }
    if (chunk.data != nullptr) {
        response.add_item(*chunk.data);
    }
    if (chunk.text != nullptr) {
        its_choice.joiner.append(response.text, {chunk.text, chunk.text_length});
    }
    if (chunk.token_ids != nullptr) {
        response.token_ids.insert(response.token_ids.end(), chunk.token_ids,
                                  chunk.token_ids + chunk.token_count);
    }
    const std::size_t tokens = chunk.token_count > 0
                                   ? chunk.token_count
                                   : std::size_t{chunk.text_length > 0 || delta.has_value() ||
                                                 logprobs.has_value() || chunk.data != nullptr};
    response.tokens += tokens;
    queued_tokens_ += tokens;
    pushed_tokens_ += tokens;
    count_tokens(tokens);
    if (chunk.finish_reason != nullptr) {
        if (choice_count_ == 1) {
            its_choice.finish_reason = as_utf8(chunk.finish_reason);
        } else {
            its_choice.joiner.flush(response.text);
            its_choice.has_finished = true;
            response.finish_reason = as_utf8(chunk.finish_reason);
        }
    }
    announce(lock);
    return Pushed::ok;
}

bool Stream::claim_end() {
    const std::lock_guard lock(mutex_);
    if (writers_waiting_ > 0) {
        writable_.notify_all();
    }
    if (!claimed_) {
        clock_.ended = Clock::now();
    }
    return !std::exchange(claimed_, true);
}

// Called with the lock, which it gives up.
void Stream::publish(std::unique_lock<std::mutex> &lock) {
    ended_ = true;
    announce(lock);
}

void Stream::publish_finish(const char *reason, const std::optional<Usage> &usage) {
    std::unique_lock lock(mutex_);
    try {
        queue_finish(reason, usage);
    } catch (const std::exception &) {
        error_.emplace().status = DYNAMO_ERROR_OUT_OF_MEMORY;  // an end there must be
    }
    publish(lock);
}

// With the lock.
void Stream::queue_finish(const char *reason, const std::optional<Usage> &usage) {
    const bool is_data = head_->kind == BodyKind::data;  // it has no finish reason
    for (std::uint32_t index = 0; index < choice_count_; ++index) {
        Choice &its_choice = choice(index);
        if (its_choice.has_finished || is_data) {
            continue;
        }
        Response &last = open_response(index);
        its_choice.joiner.flush(last.text);
        last.finish_reason = !its_choice.finish_reason.empty() ? its_choice.finish_reason
                             : reason != nullptr               ? as_utf8(reason)
                                                               : "stop";
    }
    if (usage && !is_data) {
        // If the last response of several choices was taken already, usage comes in one of its own,
        // as OpenAI sends it.
        Response &last = has_responses() ? *queue_->back() : open_response(0);
        last.usage = usage;
        metrics_->count_usage(*usage, pushed_tokens_);
    }
    if (has_responses()) {
        queue_->back()->timing = clock_.timing();
    }
}

void Stream::publish_error(const Error &error) {
    std::unique_lock lock(mutex_);
    try {
        error_ = error;
    } catch (const std::exception &) {
        error_.emplace().status = error.status;  // an end there must be, if without a message
    }
    publish(lock);
}

Error Stream::overflow_error() const {
    const std::lock_guard lock(mutex_);
    Error error;
    error.status = DYNAMO_ERROR_SLOW_CONSUMER;
    error.message = "the stream is full: " + std::to_string(queued_tokens_) +
                    " tokens were not received in time (\"stream.when_full\" is \"fail\"; "
                    "receive faster, or raise \"stream.capacity\")";
    return error;
}

bool Stream::wait_for_space(std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return claimed_ || !is_full(); };
    ++writers_waiting_;
    bool result = true;
    if (until) {
        result = writable_.wait_until(lock, *until, ready);
    } else {
        writable_.wait(lock, ready);
    }
    --writers_waiting_;
    return result;
}

std::int32_t Stream::take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out) {
    std::unique_lock lock(mutex_);
    if (!is_readable()) {
        ++readers_waiting_;
        const auto ready = [this] { return is_readable(); };
        if (until) {
            readable_.wait_until(lock, *until, ready);
        } else {
            readable_.wait(lock, ready);
        }
        --readers_waiting_;
        if (!is_readable()) {
            announced_ = false;
            return DYNAMO_PENDING;
        }
    }
    if (!has_responses()) {
        return error_ ? error_->status : static_cast<std::int32_t>(DYNAMO_END);
    }
    out = std::move(queue_->front());
    queue_->pop_front();
    queued_tokens_ -= out->tokens;
    if (queue_->empty()) {
        queue_.reset();
    }
    if (notifier_ != nullptr && !is_readable()) {
        notifier_->clear();
    }
    if (readers_waiting_ > 0 && is_readable()) {
        readable_.notify_one();
    }
    if (writers_waiting_ > 0 && !is_full()) {
        writable_.notify_all();
    }
    if (was_full_ && (queued_tokens_ <= limits_.capacity / 2 || !is_readable())) {
        was_full_ = false;
        if (!claimed_) {
            lock.unlock();
            owner_.on_space();
        }
    }
    return DYNAMO_OK;
}

int Stream::fd() {
    const std::lock_guard lock(mutex_);
    if (notifier_ == nullptr) {
        notifier_ = std::make_unique<platform::Notifier>();
        if (is_readable()) {
            notifier_->set();
        }
    }
    return notifier_->fd();
}

void Stream::tell_owner(Telling telling) {
    std::unique_lock lock(mutex_);
    telling_ = telling;
    announce(lock);
}

bool Stream::is_end_claimed() const {
    const std::lock_guard lock(mutex_);
    return claimed_;
}

bool Stream::has_pushed() const {
    const std::lock_guard lock(mutex_);
    return first_choice_.has_started || !more_choices_.empty();
}

Timing Stream::timing() const {
    const std::lock_guard lock(mutex_);
    return clock_.timing();
}

std::optional<Error> Stream::error() const {
    const std::lock_guard lock(mutex_);
    return error_;
}

std::int32_t Stream::status() const {
    const std::lock_guard lock(mutex_);
    if (!ended_) {
        return DYNAMO_PENDING;
    }
    return error_ ? error_->status : static_cast<std::int32_t>(DYNAMO_END);
}

std::uint64_t Stream::pushed_tokens() const {
    const std::lock_guard lock(mutex_);
    return pushed_tokens_;
}

std::uint64_t Stream::times_full() const {
    const std::lock_guard lock(mutex_);
    return times_full_;
}

}  // namespace dynamo
