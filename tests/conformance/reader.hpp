// SPDX-License-Identifier: Apache-2.0
// One request, received in one of the ways that the library has.
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

// The ways.
enum class Mode { recv, poll, timeout, callback, fd, notify, queue, range, coroutine };
inline constexpr std::array all_modes = {Mode::recv,     Mode::poll,  Mode::timeout,
                                         Mode::callback, Mode::fd,    Mode::notify,
                                         Mode::queue,    Mode::range, Mode::coroutine};
const char *name_of(Mode mode);

// Everything that came of a request.
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

    const Choice &first() const;  // an empty one if there is none
    const std::string &text() const { return first().text; }
    const std::vector<std::uint32_t> &token_ids() const { return first().token_ids; }
    const std::string &finish_reason() const { return first().finish_reason; }
    // Checks the response, alone and after the others.
    void add(dynamo_llm::Response response);
};

class Reader {
  public:
    // A request that was not sent. `is_held`: nothing is received until let_go(), or next() asks for it.
    static std::unique_ptr<Reader> make(Mode mode, const std::string &body, bool is_held = false);
    virtual ~Reader() = default;

    // Throws dynamo_llm::Error.
    virtual void send(const dynamo_llm::Runtime &runtime);
    // Waits for one event and adds it to the answer; false if it was the terminal event.
    bool next();
    // Receives what there is to the end.
    const Answer &collect();
    // Callbacks and coroutines, which receive by themselves, go on.
    virtual void let_go() {}
    // Whether the caller asks for each response, rather than being given them.
    virtual bool pulls() const { return true; }
    // What comes after the terminal event: checks that it is the terminal event again, or nothing.
    virtual void check_after_end();
    // Gives the request up. In some ways it ends a little later.
    virtual void destroy() { request_ = dynamo_llm::Request(); }
    // Callbacks: that the library has let go of them, exactly once; waits for it.
    virtual void check_released() {}

    // Empty once it was destroyed.
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
