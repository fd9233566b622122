// SPDX-License-Identifier: Apache-2.0
// Cases: "limits" allow one running request, and one queued in the library.
#include "js.hpp"
#include "suite.hpp"

namespace {

// Returns a request that keeps the only slot, since its responses are not received.
std::unique_ptr<Reader> occupy(Subject &subject) {
    subject.whole(subject.profile.very_long());  // computed while the slot is free
    subject.whole(subject.profile.get("short"));
    auto reader = subject.sent(Mode::recv, subject.profile.very_long());
    expect(reader->next(), "there is no response");
    return reader;
}

void check_queued(const Subject &subject, const Reader &reader) {
    expect(subject.count("/requests/queued") == 1 && subject.count("/requests/in_flight") == 1,
           "it does not wait: " + std::string(subject.runtime.statistics()));
    expect(subject.metric("dynamo_llm_requests_queued", "") == 1,
           "the metrics say that it does not wait");
    expect_status(dynamo_request_status(reader.handle()), DYNAMO_PENDING, "a request that waits");
    expect(!reader.request().timing().queue, "the engine has got a request that waits");
}

void gets_its_turn(Subject &subject, Mode mode) {
    const auto running = occupy(subject);
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    check_queued(subject, *reader);
    running->cancel();
    expect_status(reader->collect().status, DYNAMO_END, "a request that had to wait");
    expect_same(reader->answer(), subject.whole(subject.profile.get("short")));
    reader->check_after_end();
}

void overloaded(Subject &subject, Mode mode) {
    const auto running = occupy(subject);
    const auto queued = subject.sent(Mode::recv, subject.profile.get("short"));
    const auto reader = Reader::make(mode, subject.profile.get("short"));
    try {
        reader->send(subject.runtime);
        throw Failed("more were taken than \"limits\" allow");
    } catch (const dynamo_llm::Error &error) {
        expect_status(error.status(), DYNAMO_ERROR_OVERLOADED, "sending");
        expect(error.is_retriable(), "the error is not retriable: " + error.json());
    }
    running->cancel();
    expect_status(queued->collect().status, DYNAMO_END, "the queued request");
    subject.settle();
    reader->send(subject.runtime);  // it is unchanged
    expect_status(reader->collect().status, DYNAMO_END,
                  "the refused request, sent again with a free slot");
    expect_same(reader->answer(), subject.whole(subject.profile.get("short")));
}

void cancel_while_queued(Subject &subject, Mode mode) {
    const auto running = occupy(subject);
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    check_queued(subject, *reader);
    reader->cancel();
    expect_status(reader->collect().status, DYNAMO_ERROR_CANCELLED, "the terminal event");
    expect(reader->answer().responses == 0, "it was answered, though it had no place");
    expect(subject.count("/requests/queued") == 0, "it waits after its end");
    reader->check_after_end();
    const auto next = subject.sent(Mode::recv, subject.profile.get("short"));  // its slot is free
    check_queued(subject, *next);
}

void destroy_while_queued(Subject &subject, Mode mode) {
    const auto running = occupy(subject);
    const auto reader = subject.sent(mode, subject.profile.get("short"), true);
    check_queued(subject, *reader);
    reader->destroy();
    reader->check_released();
    expect(subject.count("/requests/queued") == 0, "it waits after its end");
}

void deadline_while_queued(Subject &subject, Mode mode) {
    const auto running = occupy(subject);
    const auto reader = Reader::make(mode, subject.profile.get("short"));
    dynamo_request_set_deadlines(reader->handle(), 30, -1);
    reader->send(subject.runtime);
    expect_status(reader->collect().status, DYNAMO_ERROR_DEADLINE_EXCEEDED, "the terminal event");
    expect(reader->answer().responses == 0, "it was answered, though it had no place");
    expect(!reader->request().timing().queue && reader->request().timing().total,
           "its times are not those of one that waited");
    reader->check_after_end();
}

// If the engine rejects a queued request, the request ends with the error details that send() would have reported.
void refused_in_turn(Subject &subject, Mode mode) {
    const std::string refused = subject.profile.get("refused");
    const auto running = occupy(subject);
    const auto reader = subject.sent(mode, js::at(refused, "/body"));
    const std::string id = dynamo_request_id(reader->handle());
    running->cancel();
    expect_text(dynamo_status_name(reader->collect().status),
                "DYNAMO_ERROR_" + subject.profile.text("refused", "status"), "the terminal event");
    check_details(subject.profile, "refused", dynamo_request_error_json(reader->handle()), id);
    reader->check_after_end();
}

void shutdown_ends_both(Subject &subject, Mode) {
    const auto running = occupy(subject);
    const auto queued = subject.sent(Mode::recv, subject.profile.get("short"));
    try {
        subject.runtime.shutdown(std::chrono::milliseconds(0));
        throw Failed("the shutdown says that all ended by themselves");
    } catch (const dynamo_llm::Error &error) {
        expect_status(error.status(), DYNAMO_ERROR_DEADLINE_EXCEEDED, "the shutdown");
    }
    expect_status(running->collect().status, DYNAMO_ERROR_CANCELLED, "the one that ran");
    expect_status(queued->collect().status, DYNAMO_ERROR_CANCELLED, "the one that waited");
    expect(queued->answer().responses == 0, "it was answered, though it had no place");
}

}  // namespace

const std::vector<Case> limit_cases = {
    {"queued gets its turn", gets_its_turn},
    {"overloaded", overloaded},
    {"cancel while queued", cancel_while_queued},
    {"destroy while queued", destroy_while_queued},
    {"deadline while queued", deadline_while_queued},
    {"refused in its turn", refused_in_turn},
    {"shutdown ends what waits", shutdown_ends_both, false},
};
