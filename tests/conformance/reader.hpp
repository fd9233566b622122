// SPDX-License-Identifier: Apache-2.0
// One request, received in one of the library's delivery modes.
#ifndef CONFORMANCE_READER_HPP
#define CONFORMANCE_READER_HPP

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dynamo_llm.hpp"

// The delivery modes.
enum class Mode { recv, poll, timeout, callback, fd, notify, queue, range, coroutine };
inline constexpr std::array all_modes = {Mode::recv,     Mode::poll,  Mode::timeout,
                                         Mode::callback, Mode::fd,    Mode::notify,
                                         Mode::queue,    Mode::range, Mode::coroutine};
const char *name_of(Mode mode);

// The complete result of a request.
struct Answer {
    struct Choice {
        std::string text;
        std::vector<std::uint32_t> token_ids;
        std::string finish_reason;
    };
    std::map<std::uint32_t, Choice> choices;
    std::optional<dynamo_llm::Usage> usage;
    std::optional<dynamo_llm::Timing> timing;
    std::size_t responses = 0;
    std::int32_t status = DYNAMO_PENDING;  // the terminal event

    const Choice &first() const;  // empty if there are no choices
    const std::string &text() const { return first().text; }
    const std::vector<std::uint32_t> &token_ids() const { return first().token_ids; }
    const std::string &finish_reason() const { return first().finish_reason; }
    // Checks the response, by itself and as a continuation of the previous ones, and adds it.
    void add(dynamo_llm::Response response);
};

class Reader {
  public:
    // Creates a request without sending it. `is_held`: nothing is received until let_go() or next() is called.
    static std::unique_ptr<Reader> make(Mode mode, const std::string &body, bool is_held = false);
    virtual ~Reader() = default;

    // Throws dynamo_llm::Error.
    virtual void send(const dynamo_llm::Runtime &runtime);
    // Waits for one event and adds it to the answer; false if it was the terminal event.
    bool next();
    // Receives everything up to the end.
    const Answer &collect();
    // Lets callbacks and coroutines, which receive by themselves, continue.
    virtual void let_go() {}
    // True if the caller pulls each response; false if the library pushes them.
    virtual bool pulls() const { return true; }
    // Checks that after the terminal event comes only the terminal event again, or nothing.
    virtual void check_after_end();
    // Destroys the request. In some modes it ends slightly later.
    virtual void destroy() { request_ = dynamo_llm::Request(); }
    // Waits until the library has released the callback, and checks that it did so exactly once.
    virtual void check_released() {}

    // Empty after destroy().
    virtual const dynamo_llm::Request &request() const { return request_; }
    dynamo_request_t *handle() const { return request().get(); }
    void cancel() const { dynamo_request_cancel(handle()); }
    // Waits until the request has ended, received or not.
    std::int32_t wait_for_end() const;
    const Answer &answer() const { return answer_; }

  protected:
    explicit Reader(dynamo_llm::Request request) : request_(std::move(request)) {}

    virtual dynamo_llm::Received take() = 0;

    dynamo_llm::Request request_;
    Answer answer_;
};

#endif
