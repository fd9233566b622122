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

void Stream::prepare(const StreamLimits &limits, HeldHead head, std::uint32_t choices,
                     Metrics &metrics) {
    const std::lock_guard lock(mutex_);
    limits_ = limits;
    head_ = std::move(head);
    streams_ = head_->stream;
    choice_count_ = choices;
    metrics_ = &metrics;
    clock_ = {.sent = Clock::now(), .ended = clock_.ended};  // it may have been cancelled already
}

void Stream::hand_over() {
    const std::lock_guard lock(mutex_);
    clock_.handed = Clock::now();
    metrics_->queue.observe(clock_.handed - clock_.sent);
}

// With the lock. To look at the clock for each token would cost a fast engine more than the token. So those
// that come while the reader has not taken the ones before are counted together, up to sixteen.
void Stream::count_tokens(std::size_t tokens, bool is_new_response) {
    constexpr std::size_t most = 16;
    uncounted_tokens_ += tokens;
    if (is_new_response || uncounted_tokens_ >= most || !streams_ ||
        clock_.first == Clock::time_point()) {
        count_uncounted();
    }
}

// With the lock.
void Stream::count_uncounted() noexcept {
    const std::size_t tokens = std::exchange(uncounted_tokens_, 0);
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
    drop_responses();
    queued_tokens_ = 0;
    pushed_tokens_ = 0;
    uncounted_tokens_ = 0;
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

static bool is_open(const Response &response, std::uint32_t index) {
    return response.index == index && response.finish_reason.empty();
}

// The response at the end of the queue that more of this choice can be added to. A body that does
// not stream gathers each choice in one response; else only the last response is open, to keep
// order.
Response &Stream::open_response(std::uint32_t index, bool &is_new) {
    if (last_response_ != nullptr && is_open(*last_response_, index)) {
        is_new = false;
        return *last_response_;
    }
    return other_open_response(index, is_new);
}

Response &Stream::other_open_response(std::uint32_t index, bool &is_new) {
    is_new = false;
    if (!streams_) {
        for (Response *response = first_response_.get(); response != nullptr;
             response = response->next.get()) {
            if (is_open(*response, index)) {
                return *response;
            }
        }
    }
    Choice &its_choice = choice(index);
    std::shared_ptr<Response> response = Response::create(head_.get());
    is_new = true;
    response->index = index;
    response->is_first = !its_choice.has_started;
    its_choice.has_started = true;
    Response *const added = response.get();
    (last_response_ == nullptr ? first_response_ : last_response_->next) = std::move(response);
    last_response_ = added;
    recent_place_ = added;
    return *added;
}

std::shared_ptr<Response> Stream::pop_response() noexcept {
    std::shared_ptr<Response> response = std::move(first_response_);
    first_response_ = std::move(response->next);
    if (first_response_ == nullptr) {
        last_response_ = nullptr;
    }
    return response;
}

// One by one: a long list that went by itself would need as much of the stack.
void Stream::drop_responses() noexcept {
    while (first_response_ != nullptr) {
        pop_response();
    }
}

bool Stream::has_responses() const {
    return first_response_ != nullptr;
}

// A response that only waits for the rest of a code point is nothing to take.
bool Stream::is_readable() const {
    if (ended_) {
        return true;
    }
    return has_responses() && streams_ &&
           (first_response_.get() != last_response_ || !first_response_->is_empty());
}

// A code point that has not come whole must be let in: there is nothing to take before that.
bool Stream::is_full() const {
    return queued_tokens_ >= limits_.capacity && streams_ && is_readable();
}

bool Stream::is_urgent() const {
    return ended_ || is_nearly_full();
}

bool Stream::is_nearly_full() const {
    return queued_tokens_ >= limits_.capacity - limits_.capacity / 4;
}

// Tells whoever waits for something to take. Called with the lock, which it gives up.
void Stream::announce(std::unique_lock<std::mutex> &lock) {
    const bool has_listeners = readers_waiting_ > 0 || readers_napping_ > 0 ||
                               notifier_ != nullptr || telling_ != Telling::never;
    if (has_listeners && is_readable()) {
        tell(lock);
    } else {
        lock.unlock();
    }
}

// There is something to take. Called with the lock, which it gives up.
void Stream::tell(std::unique_lock<std::mutex> &lock) {
    const bool wakes = readers_waiting_ > 0 || (readers_napping_ > 0 && is_urgent());
    // Of two readers the one that naps may be meant, or the one that sleeps; each looks for itself.
    const bool wakes_all = ended_ || (readers_waiting_ > 0 && readers_napping_ > 0);
    if (notifier_ != nullptr) {
        notifier_->set();
    }
    bool is_first = false;
    bool urges = false;
    if (telling_ != Telling::never) {
        is_first = !std::exchange(announced_, true);
        urges = is_nearly_full() && !std::exchange(urged_, true);
        if (telling_ == Telling::once) {
            telling_ = Telling::never;
            announced_ = urged_ = false;
        }
    }
    // Who is woken finds the lock free. The request outlives this call.
    lock.unlock();
    if (wakes) {
        wakes_all ? waits_->readable.notify_all() : waits_->readable.notify_one();
    }
    if (is_first) {
        owner_.on_ready();
    }
    if (urges) {
        owner_.on_urgent();
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

struct Stream::Objects {
    std::optional<json::Json> delta;
    std::optional<json::Json> logprobs;

    void move_to(Response &response, const dynamo_data_t *data) {
        if (delta) {
            response.add_delta(std::move(*delta));
        }
        if (logprobs) {
            response.add_logprobs(std::move(*logprobs));
        }
        if (data != nullptr) {
            response.add_item(*data);
        }
    }
};

void Stream::reject_index(std::uint32_t index) const {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "chunk.index is " + std::to_string(index) +
                                                     ", but the request has " +
                                                     std::to_string(choice_count_) + " choice(s)");
}

// With the lock: there is no room.
Stream::Pushed Stream::refuse() {
    ++times_full_;
    metrics_->count_full();
    if (!limits_.fail_when_full) {
        was_full_ = true;
        return Pushed::full;
    }
    claimed_ = true;
    clock_.ended = Clock::now();
    count_uncounted();
    if (writers_waiting_ > 0) {
        waits_->writable.notify_all();
    }
    return Pushed::overflow;
}

Stream::Pushed Stream::push_with_objects(const dynamo_chunk_t &chunk) {
    Objects objects;
    if (chunk.delta_json != nullptr) {
        objects.delta =
            json::parse_object(chunk.delta_json, "chunk's delta", DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    if (chunk.logprobs_json != nullptr) {
        objects.logprobs = json::parse_object(chunk.logprobs_json, "chunk's logprobs",
                                              DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    if (chunk.data != nullptr) {
        check_data(chunk);
    }
    return push_all(chunk, &objects);
}

Stream::Pushed Stream::push_all(const dynamo_chunk_t &chunk, Objects *objects) {
    std::unique_lock lock(mutex_);
    if (claimed_) {
        return Pushed::closed;
    }
    if (chunk.index >= choice_count_) {
        reject_index(chunk.index);
    }
    // Whoever wants everything at once gets it; the request's max_tokens is the bound then.
    if (is_full()) {
        return refuse();
    }
    Choice &its_choice = choice(chunk.index);
    bool is_new = false;
    Response &response = open_response(chunk.index, is_new);
    std::size_t tokens = chunk.token_count;
    if (tokens == 0 && (chunk.text_length > 0 || objects != nullptr)) {
        tokens = 1;
    }
    if (objects != nullptr) {
        objects->move_to(response, chunk.data);
    }
    if (chunk.text != nullptr) {
        its_choice.joiner.append(response.text, {chunk.text, chunk.text_length});
    }
    if (chunk.token_ids != nullptr) {
        response.token_ids.append(chunk.token_ids, chunk.token_count);
    }
    response.tokens += tokens;
    queued_tokens_ += tokens;
    pushed_tokens_ += tokens;
    count_tokens(tokens, is_new);
    if (chunk.finish_reason != nullptr) {
        finish_choice(its_choice, response, chunk.finish_reason);
    }
    announce(lock);
    return Pushed::ok;
}

// With the lock.
void Stream::finish_choice(Choice &its_choice, Response &response, const char *reason) {
    if (choice_count_ == 1) {
        its_choice.finish_reason = as_utf8(reason);
    } else {
        its_choice.joiner.flush(response.text);
        its_choice.has_finished = true;
        response.finish_reason = as_utf8(reason);
    }
}

bool Stream::claim_end() {
    const std::lock_guard lock(mutex_);
    if (writers_waiting_ > 0) {
        waits_->writable.notify_all();
    }
    if (!claimed_) {
        count_uncounted();
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
        end_status_ = DYNAMO_ERROR_OUT_OF_MEMORY;  // an end there must be
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
        bool is_new;
        Response &last = open_response(index, is_new);
        its_choice.joiner.flush(last.text);
        last.finish_reason = !its_choice.finish_reason.empty() ? its_choice.finish_reason
                             : reason != nullptr               ? as_utf8(reason)
                                                               : "stop";
    }
    if (usage && !is_data) {
        // If the last response of several choices was taken already, usage comes in one of its own,
        // as OpenAI sends it.
        bool is_new;
        Response &last = has_responses() ? *last_response_ : open_response(0, is_new);
        last.usage = std::make_unique<Usage>(*usage);
        metrics_->count_usage(*usage, pushed_tokens_);
    }
    if (has_responses()) {
        last_response_->timing = std::make_unique<Timing>(clock_.timing());
    }
}

void Stream::publish_error(const Error &error) {
    std::unique_lock lock(mutex_);
    end_status_ = error.status;
    try {
        error_ = std::make_unique<const Error>(error);
    } catch (const std::exception &) {
        error_ = nullptr;  // an end there must be, if without a message
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

// With the lock.
Stream::Waits &Stream::waits() {
    if (waits_ == nullptr) {
        waits_ = std::make_unique<Waits>();
    }
    return *waits_;
}

bool Stream::wait_for_space(std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return claimed_ || !is_full(); };
    std::condition_variable &writable = waits().writable;
    ++writers_waiting_;
    bool result = true;
    if (until) {
        result = writable.wait_until(lock, *until, ready);
    } else {
        writable.wait(lock, ready);
    }
    --writers_waiting_;
    return result;
}

// Called with the lock, which it has again when it returns.
bool Stream::wait_until_readable(std::unique_lock<std::mutex> &lock,
                                 std::optional<Clock::time_point> until) {
    Clock::time_point now = Clock::now();
    if (until && *until <= now) {
        return false;
    }
    std::condition_variable &readable = waits().readable;
    if (nap_.length().count() > 0) {
        const Clock::time_point end = now + nap_.length();
        ++readers_napping_;
        readable.wait_until(lock, until ? std::min(*until, end) : end,
                            [this] { return is_readable() && is_urgent(); });
        --readers_napping_;
        nap_.napped(is_readable());
        if (is_readable()) {
            return true;
        }
        now = Clock::now();
    }
    ++readers_waiting_;
    const auto ready = [this] { return is_readable(); };
    if (until) {
        readable.wait_until(lock, *until, ready);
    } else {
        readable.wait(lock, ready);
    }
    --readers_waiting_;
    if (!is_readable()) {
        return false;
    }
    nap_.slept(Clock::now() - now);
    return true;
}

// With the lock. Whether there is room again for an engine that found none.
bool Stream::make_space() noexcept {
    if (writers_waiting_ > 0 && !is_full()) {
        waits_->writable.notify_all();
    }
    if (was_full_ && (queued_tokens_ <= limits_.capacity / 2 || !is_readable())) {
        was_full_ = false;
        return !claimed_;
    }
    return false;
}

std::int32_t Stream::take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out) {
    std::unique_lock lock(mutex_);
    if (!is_readable() && !wait_until_readable(lock, until)) {
        return DYNAMO_PENDING;
    }
    if (!has_responses()) {
        return end_status_;
    }
    out = pop_response();
    queued_tokens_ -= out->tokens;
    if (notifier_ != nullptr && !is_readable()) {
        notifier_->clear();
    }
    if (readers_waiting_ > 0 && is_readable()) {
        waits_->readable.notify_all();
    }
    const bool has_space = make_space();
    lock.unlock();
    if (has_space) {
        owner_.on_space();
    }
    return DYNAMO_OK;
}

std::int32_t Stream::take_next(std::shared_ptr<Response> &out, bool &has_more) {
    std::unique_lock lock(mutex_);
    urged_ = false;
    if (!is_readable()) {
        announced_ = has_more = false;
        return DYNAMO_PENDING;
    }
    if (!has_responses()) {
        has_more = false;  // and nobody tells of more: this is the end
        return end_status_;
    }
    out = pop_response();
    queued_tokens_ -= out->tokens;
    announced_ = has_more = is_readable();
    const bool has_space = make_space();
    lock.unlock();
    if (has_space) {
        owner_.on_space();
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

bool Stream::is_end_claimed_before_push() const {
    const std::lock_guard lock(mutex_);
    platform::prefetch_to_write(head_.get(), sizeof(ResponseHead::spare));
    if (recent_place_ != nullptr) {
        platform::prefetch_to_write(recent_place_, sizeof(Response));
    }
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
    if (end_status_ >= 0) {
        return std::nullopt;
    }
    if (error_ != nullptr) {
        return *error_;
    }
    std::optional<Error> error(std::in_place);
    error->status = end_status_;
    return error;
}

std::int32_t Stream::status() const {
    const std::lock_guard lock(mutex_);
    if (!ended_) {
        return DYNAMO_PENDING;
    }
    return end_status_;
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
