// SPDX-License-Identifier: Apache-2.0
#include "reader.hpp"

#include <poll.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "js.hpp"
#include "suite.hpp"

extern "C" {
#include "../c/support.h"
}

using dynamo_llm::Received;
using dynamo_llm::Request;
using dynamo_llm::Response;

const char *name_of(Mode mode) {
    static constexpr std::array names = {"recv",   "poll",  "timeout", "callback", "fd",
                                         "notify", "queue", "range",   "coroutine"};
    return names[static_cast<std::size_t>(mode)];
}

// ----------------------------------------------------------------------------------------- answer

const Answer::Choice &Answer::first() const {
    static const Choice none;
    const auto found = choices.find(0);
    return found == choices.end() ? none : found->second;
}

void Answer::add(Response response) {
    const std::string text(response.text());
    expect(is_utf8(text.c_str()), "a response splits a code point: " + text);
    Choice &choice = choices[response.index()];
    if (choice.finish_reason.empty()) {
        choice.finish_reason = response.finish_reason();
    } else {
        expect(text.empty() && response.token_ids().empty() && response.finish_reason().empty(),
               "more of a choice came after its finish reason: " + text);
    }
    expect(!usage || !response.usage(), "usage came twice");
    choice.text += text;
    choice.token_ids.insert(choice.token_ids.end(), response.token_ids().begin(),
                            response.token_ids().end());
    expect(!timing, "a response came after the one with the times");
    usage = response.usage() ? response.usage() : usage;
    timing = response.timing();
    ++responses;
    const std::string json(response.json());
    for (const char *place :
         {"/choices/0/delta/content", "/choices/0/text", "/choices/0/message/content"}) {
        const std::string said = js::at(json, place);
        if (js::is_string(said)) {
            expect_text(js::string_at(json, place), text, "the text in a response's JSON");
        }
    }
}

// ----------------------------------------------------------------------------------------- reader

void Reader::send(const dynamo_llm::Runtime &runtime) {
    runtime.send(request_);
}

bool Reader::next() {
    Received received = take();
    if (received) {
        answer_.add(std::move(received.response));
        return true;
    }
    answer_.status = received.status;
    return false;
}

const Answer &Reader::collect() {
    let_go();
    while (next()) {
    }
    return answer_;
}

void Reader::check_after_end() {
    for (int i = 0; i < 3; ++i) {
        dynamo_response_t *response = nullptr;
        expect_status(dynamo_request_next(handle(), 0, &response), answer_.status,
                      "dynamo_request_next() after the end");
        expect(response == nullptr, "there is a response after the end");
        expect(dynamo_request_recv(handle()) == nullptr,
               "dynamo_request_recv() gives more after the end");
        expect_status(dynamo_last_status(), answer_.status, "dynamo_request_recv() after the end");
    }
    expect_status(dynamo_request_status(handle()), answer_.status, "dynamo_request_status()");
    expect((dynamo_request_error(handle()) == nullptr) == (answer_.status == DYNAMO_END),
           "dynamo_request_error() has a message if, and only if, it is an error");
}

std::int32_t Reader::wait_for_end() const {
    wait_until([this] { return dynamo_request_status(handle()) != DYNAMO_PENDING; });
    return dynamo_request_status(handle());
}

namespace {

// -------------------------------------------------------------------------- delivery modes that pull responses

class Recv : public Reader {
  public:
    explicit Recv(Request request) : Reader(std::move(request)) {}

  private:
    Received take() override {
        dynamo_response_t *const response = dynamo_request_recv(handle());
        return {dynamo_last_status(), Response(response)};
    }
};

class Poll : public Reader {
  public:
    Poll(Request request, int timeout_ms) : Reader(std::move(request)), timeout_ms_(timeout_ms) {}

  private:
    Received take() override {
        for (;;) {
            Received received = request_.next(std::chrono::milliseconds(timeout_ms_));
            if (!received.is_pending()) {
                return received;
            }
            if (timeout_ms_ == 0) {
                usleep(100);
            }
        }
    }

    const int timeout_ms_;
};

class Descriptor : public Reader {
  public:
    explicit Descriptor(Request request) : Reader(std::move(request)) {}

    void check_after_end() override {
        expect(readable(request_.fd()) == 1, "the descriptor is not readable after the end");
        Reader::check_after_end();
        expect(readable(request_.fd()) == 1, "the descriptor does not stay readable after the end");
    }

  private:
    Received take() override {
        pollfd look = {request_.fd(), POLLIN, 0};
        while (poll(&look, 1, 1000) != 1) {
        }
        Received received = request_.poll();
        expect(!received.is_pending(), "the descriptor was readable, but there was nothing");
        return received;
    }
};

class Notify : public Reader {
  public:
    explicit Notify(Request request) : Reader(std::move(request)) {}

    void check_after_end() override {
        wait();  // at once
        Reader::check_after_end();
    }

  private:
    struct Call {
        std::mutex mutex;
        std::condition_variable changed;
        bool has_come = false;
    };

    void wait() {
        Call call;
        const std::int32_t status = dynamo_request_notify(
            handle(),
            [](void *user) {
                Call &here = *static_cast<Call *>(user);
                const std::lock_guard lock(here.mutex);
                here.has_come = true;
                here.changed.notify_one();
            },
            &call);
        expect_status(status, DYNAMO_OK, "dynamo_request_notify()");
        std::unique_lock lock(call.mutex);
        call.changed.wait(lock, [&] { return call.has_come; });
    }

    Received take() override {
        wait();
        Received received = request_.poll();
        expect(!received.is_pending(), "dynamo_request_notify() called, but there was nothing");
        return received;
    }
};

class Queued : public Reader {
  public:
    explicit Queued(Request request)
        : Reader(std::move(request)), queue_(dynamo_llm::Queue::create()) {
        request_.set_queue(queue_, this);
    }

    void check_after_end() override {
        const dynamo_llm::Event more = queue_.next(std::chrono::milliseconds(10));
        expect(more.is_pending(), "an event came after the terminal one");
        expect_status(dynamo_request_status(handle()), answer_.status, "dynamo_request_status()");
        dynamo_response_t *response = nullptr;
        expect_status(dynamo_request_next(handle(), 0, &response), DYNAMO_ERROR_INVALID_STATE,
                      "dynamo_request_next() of a request with a queue");
    }

  private:
    Received take() override {
        dynamo_llm::Event event = queue_.next();
        expect(event.request == handle() && event.user == this,
               "an event of a queue is of another request");
        return {event.status, std::move(event.response)};
    }

    dynamo_llm::Queue queue_;
};

class Range : public Reader {
  public:
    explicit Range(Request request) : Reader(std::move(request)) {}

  private:
    Received take() override {
        try {
            if (at_) {
                ++*at_;
            } else {
                at_.emplace(request_.begin());
            }
            if (*at_ == request_.end()) {
                return {DYNAMO_END, Response()};
            }
            return {DYNAMO_OK, std::move(**at_)};
        } catch (const dynamo_llm::Error &error) {
            return {error.status(), Response()};
        }
    }

    std::optional<Request::Iterator> at_;
};

// ------------------------------------------------------------------- delivery modes that push responses

// Passes events from the library's callback thread to the test's thread.
class Events {
  public:
    explicit Events(bool is_held) : is_held_(is_held) {}

    // Called by the callback thread; blocks it while the reader is held.
    void put(Received received) {
        std::unique_lock lock(mutex_);
        events_.push_back(std::move(received));
        changed_.notify_all();
        changed_.wait(lock, [this] { return !is_held_; });
    }
    void let_go() {
        const std::lock_guard lock(mutex_);
        is_held_ = false;
        changed_.notify_all();
    }
    Received take() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !events_.empty(); });
        Received first = std::move(events_.front());
        events_.pop_front();
        return first;
    }
    bool is_empty() const {
        const std::lock_guard lock(mutex_);
        return events_.empty();
    }
    void release() {
        const std::lock_guard lock(mutex_);
        ++releases_;
        changed_.notify_all();
    }
    int releases() const {
        const std::lock_guard lock(mutex_);
        return releases_;
    }

  private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Received> events_;
    bool is_held_;
    int releases_ = 0;
};

class Callback : public Reader {
  public:
    Callback(Request request, bool is_held)
        : Reader(std::move(request)), events_(std::make_shared<Events>(is_held)) {
        auto kept = std::make_unique<std::shared_ptr<Events>>(events_);
        const std::int32_t status = dynamo_request_set_callback(
            handle(),
            [](void *user, dynamo_request_t *, dynamo_response_t *response, std::int32_t outcome) {
                (*static_cast<std::shared_ptr<Events> *>(user))->put({outcome, Response(response)});
            },
            kept.get(),
            [](void *user) {
                const std::unique_ptr<std::shared_ptr<Events>> last(
                    static_cast<std::shared_ptr<Events> *>(user));
                (*last)->release();
            });
        expect_status(status, DYNAMO_OK, "dynamo_request_set_callback()");
        kept.release();  // now owned by the library
    }
    ~Callback() override { events_->let_go(); }

    void let_go() override { events_->let_go(); }
    bool pulls() const override { return false; }
    void check_after_end() override {
        check_released();
        expect(events_->is_empty(), "an event came after the terminal one");
        expect_status(dynamo_request_status(handle()), answer_.status, "dynamo_request_status()");
        dynamo_response_t *response = nullptr;
        expect_status(dynamo_request_next(handle(), 0, &response), DYNAMO_ERROR_INVALID_STATE,
                      "dynamo_request_next() of a request with a callback");
    }
    void destroy() override {
        Reader::destroy();
        events_->let_go();
    }
    void check_released() override {
        wait_until([this] { return events_->releases() > 0; });
        expect(events_->releases() == 1, "a callback was released twice");
    }

  private:
    Received take() override { return events_->take(); }

    const std::shared_ptr<Events> events_;
};

// A coroutine that is not awaited.
struct Detached {
    struct promise_type {
        Detached get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};

using Async = dynamo_llm::AsyncRequest<dynamo_llm::InlineExecutor>;

// A free function, so that its frame owns copies of all it uses.
Detached receive(std::shared_ptr<Async> request, std::shared_ptr<Events> events) {
    for (bool has_ended = false; !has_ended;) {
        Received received = co_await request->next();
        has_ended = received.has_ended();
        events->put(std::move(received));
    }
}

class Coroutine : public Reader {
  public:
    Coroutine(Request request, bool is_held)
        : Reader(std::move(request)), is_held_(is_held), events_(std::make_shared<Events>(false)) {}
    ~Coroutine() override { Coroutine::destroy(); }

    void send(const dynamo_llm::Runtime &runtime) override {
        Reader::send(runtime);
        async_ = std::make_shared<Async>(std::move(request_), dynamo_llm::InlineExecutor());
        if (!is_held_) {
            receive(async_, events_);
        }
    }
    void let_go() override {
        if (std::exchange(is_held_, false)) {
            receive(async_, events_);
        }
    }
    bool pulls() const override { return false; }
    void destroy() override {
        if (async_ != nullptr) {
            cancel();  // ends the coroutine, which shares ownership of it
            async_.reset();
        }
        Reader::destroy();
    }
    const Request &request() const override {
        return async_ == nullptr ? request_ : async_->request();
    }

  private:
    // While held, it receives one response per call, as the other modes do.
    Received take() override {
        if (is_held_) {
            one(async_, events_);
        }
        return events_->take();
    }
    static Detached one(std::shared_ptr<Async> request, std::shared_ptr<Events> events) {
        events->put(co_await request->next());
    }

    bool is_held_;
    std::shared_ptr<Async> async_;
    const std::shared_ptr<Events> events_;
};

}  // namespace

std::unique_ptr<Reader> Reader::make(Mode mode, const std::string &body, bool is_held) {
    Request request(body);
    switch (mode) {
        case Mode::recv:
            return std::make_unique<Recv>(std::move(request));
        case Mode::poll:
            return std::make_unique<Poll>(std::move(request), 0);
        case Mode::timeout:
            return std::make_unique<Poll>(std::move(request), 50);
        case Mode::callback:
            return std::make_unique<Callback>(std::move(request), is_held);
        case Mode::fd:
            return std::make_unique<Descriptor>(std::move(request));
        case Mode::notify:
            return std::make_unique<Notify>(std::move(request));
        case Mode::queue:
            return std::make_unique<Queued>(std::move(request));
        case Mode::range:
            return std::make_unique<Range>(std::move(request));
        default:
            return std::make_unique<Coroutine>(std::move(request), is_held);
    }
}
