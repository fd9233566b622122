// SPDX-License-Identifier: Apache-2.0
// The engine's side of a stream: pushing chunks, and waking the readers that wait for them.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/wait_check.hpp"
#include "stream/stream.hpp"

namespace dynamo {
namespace {

void check_payload(const dynamo_data_t &payload) {
    if (payload.bytes == nullptr && payload.length > 0) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "chunk.data->bytes is NULL");
    }
    if (payload.kind == DYNAMO_DATA_JSON) {
        json::parse({static_cast<const char *>(payload.bytes), payload.length}, "chunk's data");
    } else if (payload.kind != DYNAMO_DATA_BYTES) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      "chunk.data->kind is " + std::to_string(payload.kind) +
                          "; it must be DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES");
    }
}

bool is_open(const Response &response, std::uint32_t index) {
    return response.index == index && response.finish_reason.empty();
}

}  // namespace

// The JSON objects of a chunk.
struct ChunkObjects {
    std::optional<json::Json> delta;
    std::optional<json::Json> logprobs;

    // Also checks the payload. Throws Failure with INVALID_JSON or INVALID_ARGUMENT.
    explicit ChunkObjects(const dynamo_chunk_t &chunk) {
        constexpr std::int32_t wrong_type = DYNAMO_ERROR_INVALID_ARGUMENT;
        if (chunk.delta_json != nullptr) {
            delta = json::parse_object(chunk.delta_json, "chunk's delta", wrong_type);
        }
        if (chunk.logprobs_json != nullptr) {
            logprobs = json::parse_object(chunk.logprobs_json, "chunk's logprobs", wrong_type);
        }
        if (chunk.data != nullptr) {
            check_payload(*chunk.data);
        }
    }

    // payload: may be nullptr.
    void move_to(Response &response, const dynamo_data_t *payload) {
        if (delta) {
            response.add_delta(std::move(*delta));
        }
        if (logprobs) {
            response.add_logprobs(std::move(*logprobs));
        }
        if (payload != nullptr) {
            response.add_payload(*payload);
        }
    }
};

Stream::PushResult Stream::state_before_push(const dynamo_stream_t *engine) const {
    const std::lock_guard lock(mutex_);
    if (engine_ != engine) {
        return PushResult::stale;
    }
    platform::prefetch_to_write(head_.get(), sizeof(ResponseHead::spare));
    if (recent_response_ != nullptr) {
        platform::prefetch_to_write(recent_response_, sizeof(Response));
    }
    const bool is_complete = choice_count_ == 1 && first_choice_.is_complete();
    return end_claimed_ || is_complete ? PushResult::closed : PushResult::ok;
}

Stream::PushResult Stream::set_text_stage(const dynamo_stream_t *engine, std::uint32_t index,
                                          std::unique_ptr<TextStage> stage,
                                          std::uint64_t prompt_tokens) {
    const std::lock_guard lock(mutex_);
    if (engine_ != engine) {
        return PushResult::stale;
    }
    if (index >= choice_count_) {
        reject_index(index);
    }
    if (counted_ == nullptr) {
        counted_ = std::make_unique<Usage>();
    }
    choice(index).stage = std::move(stage);
    counted_->prompt_tokens += prompt_tokens;
    return end_claimed_ ? PushResult::closed : PushResult::ok;
}

Stream::PushResult Stream::set_queued(const dynamo_stream_t *engine, bool is_queued) {
    const std::lock_guard lock(mutex_);
    if (engine_ != engine) {
        return PushResult::stale;
    }
    if (!end_claimed_) {
        meter_.on_queued(is_queued);
    }
    return PushResult::ok;
}

Stream::PushResult Stream::push_with_objects(const dynamo_stream_t *engine,
                                             const dynamo_chunk_t &chunk) {
    ChunkObjects objects(chunk);
    return push_parsed(engine, chunk, &objects);
}

Stream::PushResult Stream::push_parsed(const dynamo_stream_t *engine, const dynamo_chunk_t &chunk,
                                       ChunkObjects *objects) {
    std::unique_lock lock(mutex_);
    if (engine_ != engine) {
        return PushResult::stale;
    }
    if (end_claimed_) {
        return PushResult::closed;
    }
    if (chunk.index >= choice_count_) {
        if (choice_count_ == 1 && first_choice_.stage != nullptr) {
            // A token-level engine has one choice, whatever it calls it.
            lock.unlock();
            dynamo_chunk_t own = chunk;
            own.index = 0;
            return push_parsed(engine, own, objects);
        }
        reject_index(chunk.index);
    }
    if (chunk.data != nullptr && head_->kind != BodyKind::raw) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "chunk.data requires a raw request");
    }
    if (is_full()) {
        return reject_full();
    }
    Choice &state = choice(chunk.index);
    if (state.stage != nullptr) {
        return push_converted(lock, state, chunk, objects);
    }
    if (state.has_finished) {
        return push_after_finish(chunk, objects);
    }
    append(state, chunk, objects);
    notify(lock);
    return PushResult::ok;
}

// Pushes what the stage of a choice makes of a chunk.
Stream::PushResult Stream::push_converted(std::unique_lock<std::mutex> &lock, Choice &state,
                                          const dynamo_chunk_t &chunk, ChunkObjects *objects) {
    if (state.is_complete()) {
        return PushResult::closed;
    }
    append(state, convert(state, chunk, objects), objects);
    const bool is_complete = state.is_complete();
    notify(lock);
    return is_complete ? PushResult::closed : PushResult::ok;
}

[[gnu::always_inline]] inline void Stream::append(Choice &state, const dynamo_chunk_t &chunk,
                                                  ChunkObjects *objects) {
    if (objects != nullptr && objects->delta && is_chat(head_->kind)) {
        delta::normalize(*objects->delta, tool_calls(chunk.index));
        if (objects->delta->empty()) {
            objects->delta.reset();
        }
    }
    bool is_new = false;
    Response &response = open_response(chunk.index, is_new);
    state.has_delta = state.has_delta || (objects != nullptr && objects->delta);
    std::size_t tokens = chunk.token_count;
    if (tokens == 0 && (chunk.text_length > 0 || objects != nullptr)) {
        tokens = 1;
    }
    if (objects != nullptr) {
        objects->move_to(response, chunk.data);
    }
    if (chunk.text != nullptr) {
        state.joiner.append(response.text, {chunk.text, chunk.text_length});
    }
    if (chunk.token_ids != nullptr) {
        response.token_ids.append(chunk.token_ids, chunk.token_count);
    }
    response.tokens += tokens;
    queued_tokens_ += tokens;
    meter_.on_tokens(tokens, is_new || !is_streaming_);
    if (chunk.finish_reason != nullptr && chunk.finish_reason[0] != '\0') {
        finish_choice(state, response, chunk.finish_reason);
    }
}

// Returns what the stage of a choice makes of a chunk: text in place of the engine's, and the tokens that belong to the
// answer. What it refers to is valid until the next call.
dynamo_chunk_t Stream::convert(Choice &state, const dynamo_chunk_t &chunk, ChunkObjects *objects) {
    const dynamo_stage_output output =
        state.stage->feed({chunk.token_ids, chunk.token_ids == nullptr ? 0 : chunk.token_count,
                           chunk.finish_reason, chunk.logprobs_json});
    if (objects != nullptr) {
        objects->logprobs.reset();
        if (output.logprobs_json != nullptr) {
            objects->logprobs = json::parse(output.logprobs_json, "log-probs");
        }
    }
    counted_->completion_tokens += output.token_count;
    dynamo_chunk_t converted = chunk;
    converted.text = output.text;
    converted.text_length = output.text_length;
    converted.token_count = output.token_count;
    converted.finish_reason = output.finish_reason;
    return converted;
}

void Stream::reject_index(std::uint32_t index) const {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "chunk.index is " + std::to_string(index) +
                                                     ", but the request has " +
                                                     std::to_string(choice_count_) + " choice(s)");
}

// Ignores an empty chunk, such as one that carried only the token counts.
Stream::PushResult Stream::push_after_finish(const dynamo_chunk_t &chunk,
                                             const ChunkObjects *objects) const {
    if (chunk.text_length == 0 && chunk.token_count == 0 &&
        (objects == nullptr || (!objects->delta && !objects->logprobs))) {
        return PushResult::ok;
    }
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                  "choice " + std::to_string(chunk.index) +
                      " already has its finish_reason; push its last chunk with it, or before it");
}

Stream::PushResult Stream::reject_full() {
    meter_.on_full();
    if (!limits_.fail_when_full) {
        was_full_ = true;
        return PushResult::full;
    }
    return PushResult::overflow;
}

std::string Stream::overflow_message() const {
    const std::lock_guard lock(mutex_);
    return "the stream is full: " + std::to_string(queued_tokens_) +
           " tokens were not received in time (\"stream.when_full\" is \"fail\"; "
           "receive faster, or raise \"stream.capacity\")";
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

delta::ToolCalls &Stream::tool_calls(std::uint32_t index) {
    if (tool_calls_.size() <= index) {
        tool_calls_.resize(index + 1);
    }
    return tool_calls_[index];
}

// The response that more of this choice can be appended to. A body that does not stream gathers each choice in one
// response; otherwise only the last response is open, which keeps the order.
Response &Stream::open_response(std::uint32_t index, bool &is_new) {
    if (responses_.last() != nullptr && is_open(*responses_.last(), index)) {
        is_new = false;
        return *responses_.last();
    }
    return find_or_append_response(index, is_new);
}

Response &Stream::find_or_append_response(std::uint32_t index, bool &is_new) {
    is_new = false;
    if (!is_streaming_) {
        for (Response *response = responses_.first(); response != nullptr;
             response = response->next.get()) {
            if (is_open(*response, index)) {
                return *response;
            }
        }
    }
    Choice &state = choice(index);
    Response &response = append_response(index);
    is_new = true;
    response.is_first = !state.has_started;
    response.is_after_delta = state.has_delta;
    state.has_started = true;
    return response;
}

Response &Stream::append_response(std::uint32_t index) {
    std::shared_ptr<Response> response = Response::create(head_.get());
    response->index = index;
    Response *const added = response.get();
    responses_.append(std::move(response));
    recent_response_ = added;
    return *added;
}

// Completes the last response of a choice.
void Stream::complete_choice(Choice &state, Response &last, const std::string &reason) {
    state.joiner.flush(last.text);
    if (last.index < tool_calls_.size()) {
        if (auto calls = tool_calls_[last.index].take(); !calls.empty()) {
            last.tool_calls =
                std::make_unique<const std::vector<delta::ToolCall>>(std::move(calls));
        }
    }
    last.finish_reason = reason;
}

// The last response carries the usage, and nothing may follow a finish reason of its choice. So the finish reason of
// the choice that finishes last is kept back until the end.
void Stream::finish_choice(Choice &state, Response &response, const char *reason) {
    if (finished_choices_ + 1 == choice_count_) {
        state.finish_reason = as_utf8(reason);
    } else {
        complete_choice(state, response, as_utf8(reason));
        state.has_finished = true;
        ++finished_choices_;
    }
}

void Stream::append_finish(const char *reason, const std::optional<Usage> &usage) {
    const bool is_raw = head_->kind == BodyKind::raw;  // has no finish reason
    for (std::uint32_t index = 0; index < choice_count_; ++index) {
        Choice &state = choice(index);
        if (state.has_finished || is_raw) {
            continue;
        }
        bool is_new;
        Response &last = open_response(index, is_new);
        if (state.stage != nullptr && state.finish_reason.empty()) {
            finish_stage(state, last, reason);
        }
        complete_choice(state, last,
                        !state.finish_reason.empty() ? state.finish_reason
                        : reason != nullptr          ? as_utf8(reason)
                                                     : "stop");
    }
    if (!is_streaming_ && choice_count_ > 1) {
        join_choices();
    }
    std::optional<Usage> counts = usage;
    if (counted_ != nullptr) {  // the engine knows only the cached ones
        counts = *counted_;
        counts->cached_tokens = usage ? usage->cached_tokens : 0;
    }
    if (counts && !is_raw) {
        if (is_streaming_ && head_->include_usage.value_or(false)) {
            append_response(0).has_choice = false;
        }
        responses_.last()->usage = std::make_unique<Usage>(*counts);
        meter_.on_usage(*counts);
    }
    if (!responses_.is_empty()) {
        responses_.last()->timing = std::make_unique<Timing>(meter_.timing());
    }
}

// Appends the text that the stage of a choice has held back.
void Stream::finish_stage(Choice &state, Response &last, const char *reason) {
    const dynamo_stage_output output = state.stage->feed(
        {nullptr, 0, reason == nullptr || reason[0] == '\0' ? "stop" : reason, nullptr});
    last.text.append({output.text, output.text_length});
    if (output.finish_reason != nullptr) {
        state.finish_reason = as_utf8(output.finish_reason);
    }
}

// Joins all choices into one response, since a whole answer is one.
void Stream::join_choices() {
    auto others = std::make_unique<std::vector<std::shared_ptr<Response>>>();
    others->reserve(choice_count_);
    std::shared_ptr<Response> first;
    while (!responses_.is_empty()) {
        std::shared_ptr<Response> response = responses_.pop();
        if (response->index == 0) {
            first = std::move(response);
        } else {
            others->push_back(std::move(response));
        }
    }
    std::sort(others->begin(), others->end(),
              [](const auto &a, const auto &b) { return a->index < b->index; });
    for (const std::shared_ptr<Response> &other : *others) {
        first->tokens += other->tokens;
    }
    first->more_choices = std::move(others);
    responses_.append(std::move(first));
}

void Stream::notify(std::unique_lock<std::mutex> &lock) {
    const bool has_listeners = readers_waiting_ > 0 || readers_polling_ > 0 ||
                               notifier_ != nullptr || notify_ != Notify::never;
    if (has_listeners && is_readable()) {
        notify_listeners(lock);
    } else {
        lock.unlock();
    }
}

void Stream::notify_listeners(std::unique_lock<std::mutex> &lock) {
    const bool wakes = readers_waiting_ > 0 || (readers_polling_ > 0 && is_urgent());
    // notify_one() could wake the polling reader where the sleeping one is meant; each checks for itself.
    const bool wakes_all = end_published_ || (readers_waiting_ > 0 && readers_polling_ > 0);
    if (notifier_ != nullptr) {
        notifier_->set();
    }
    bool is_first = false;
    bool becomes_urgent = false;
    if (notify_ != Notify::never) {
        is_first = !std::exchange(owner_notified_, true);
        becomes_urgent = is_nearly_full() && !std::exchange(owner_urged_, true);
        if (notify_ == Notify::once) {
            notify_ = Notify::never;
            owner_notified_ = owner_urged_ = false;
        }
    }
    // Unlocked first, so that a woken reader does not block on the lock. The request outlives this call.
    lock.unlock();
    if (wakes) {
        wakes_all ? conditions_->readable.notify_all() : conditions_->readable.notify_one();
    }
    if (is_first) {
        owner_.on_ready();
    }
    if (becomes_urgent) {
        owner_.on_urgent();
    }
}

Stream::PushResult Stream::wait_until_writable(const dynamo_stream_t *engine,
                                               std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] { return engine_ != engine || end_claimed_ || !is_full(); };
    bool is_ready = ready();
    if (!is_ready) {
        if (until && *until <= Clock::now()) {
            return PushResult::full;
        }
        if (is_hosted_) {
            wait_check::require_allowed("dynamo_stream_wait()", true);
        }
        std::condition_variable &writable = conditions().writable;
        ++writers_waiting_;
        is_ready = wait_until(writable, lock, until, ready);
        --writers_waiting_;
    }
    if (engine_ != engine) {
        return PushResult::stale;
    }
    return end_claimed_ ? PushResult::closed : is_ready ? PushResult::ok : PushResult::full;
}

}  // namespace dynamo
