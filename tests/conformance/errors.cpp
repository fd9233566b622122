// SPDX-License-Identifier: Apache-2.0
// Cases: engines that fail, and engines that stall.
#include <thread>

#include "js.hpp"
#include "suite.hpp"

namespace {

std::string status_name(const Profile &profile, const std::string &key) {
    return "DYNAMO_ERROR_" + profile.text(key, "status");
}

}  // namespace

void check_details(const Profile &profile, const std::string &key, const std::string &details,
                   const std::string &request_id) {
    expect_text(js::string_at(details, "/name"), status_name(profile, key), "the error's name");
    const std::string message = js::string_at(details, "/message");
    expect(message.find(profile.text(key, "message")) != message.npos,
           "the message lacks \"" + profile.text(key, "message") + "\": " + details);
    expect_text(js::string_at(details, "/engine"), profile.engine(), "the error's engine");
    expect_text(js::string_at(details, "/request_id"), request_id, "the error's request");
    const std::string python = profile.text(key, "python");
    if (!python.empty()) {
        expect_text(js::string_at(details, "/python/type"), python, "the type of the exception");
        expect(!js::string_at(details, "/python/traceback").empty(), "there is no traceback");
    }
}

namespace {

void refused(Subject &subject, Mode mode) {
    const auto reader = Reader::make(mode, js::at(subject.profile.get("refused"), "/body"));
    const std::string id = dynamo_request_id(reader->handle());
    for (int i = 0; i < 2; ++i) {  // it is unchanged, so it may be sent again
        try {
            reader->send(subject.runtime);
            throw Failed("it was taken");
        } catch (const dynamo_llm::Error &error) {
            check_details(subject.profile, "refused", error.json(), id);
        }
    }
    expect_status(dynamo_request_status(reader->handle()), DYNAMO_PENDING, "the status");
    reader->destroy();
    reader->check_released();
}

void check_failure(Subject &subject, Mode mode, const std::string &key) {
    const auto reader = subject.sent(mode, js::at(subject.profile.get(key), "/body"));
    const std::string id = dynamo_request_id(reader->handle());
    const Answer &answer = reader->collect();
    expect_text(dynamo_status_name(answer.status), status_name(subject.profile, key),
                "the terminal event");
    expect_text(answer.text(), subject.profile.text(key, "text"), "what came before");
    expect_text(answer.finish_reason(), "", "the finish reason");
    const char *const details = dynamo_request_error_json(reader->handle());
    expect(details != nullptr, "the request has no error");
    check_details(subject.profile, key, details, id);
    expect_text(dynamo_request_error(reader->handle()), js::string_at(details, "/message"),
                "the message");
    reader->check_after_end();
}

void fails_first(Subject &subject, Mode mode) {
    check_failure(subject, mode, "fails_first");
}

void fails_later(Subject &subject, Mode mode) {
    check_failure(subject, mode, "fails_later");
}

// Other requests are answered while one stalls, and a cancel ends the stalled one.
void stall(Subject &subject, Mode mode) {
    const std::string body = js::at(subject.profile.get("stall"), "/body");
    const std::string text = subject.profile.text("stall", "text");
    const auto reader = subject.sent(mode, body);
    while (reader->answer().text().size() < text.size()) {
        expect(reader->next(), "it ended");
    }
    expect_text(reader->answer().text(), text, "what it says");
    const auto other = subject.sent(mode, subject.profile.get("short"));
    expect_status(other->collect().status, DYNAMO_END, "another request");
    expect_status(dynamo_request_status(reader->handle()), DYNAMO_PENDING,
                  "the one that stands still");
    if (mode == Mode::poll || mode == Mode::timeout) {
        dynamo_response_t *response = nullptr;
        expect_status(dynamo_request_next(reader->handle(), mode == Mode::poll ? 0 : 20, &response),
                      DYNAMO_PENDING, "dynamo_request_next()");
    }
    std::thread canceller([&] { reader->cancel(); });  // before or during this thread's wait
    const std::int32_t status = reader->collect().status;
    canceller.join();
    expect_status(status, DYNAMO_ERROR_CANCELLED, "the terminal event");
    expect_text(reader->answer().text(), text, "what it says");
    reader->check_after_end();
}

void engine_goes_on(Subject &subject, Mode mode) {
    const std::string body = subject.profile.get("short");
    const auto reader = subject.sent(mode, body);
    expect_status(reader->collect().status, DYNAMO_END, "an answer after the failures of others");
    expect_same(reader->answer(), subject.whole(body));
}

}  // namespace

const std::vector<Case> error_cases = {
    {"refused", refused},
    {"fails before the first token", fails_first},
    {"fails after the first token", fails_later},
    {"stalls", stall},
    {"goes on after failures", engine_goes_on},
};
