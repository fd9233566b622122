// SPDX-License-Identifier: Apache-2.0
// Cases: how requests end. Terminal events, cancel, destroyed handles, and deadlines.
#include <unistd.h>

#include "suite.hpp"

namespace {

void end_again(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    expect_status(reader->collect().status, DYNAMO_END, "the answer");
    reader->check_after_end();
    reader->cancel();  // harmless
    reader->check_after_end();
}

void cancel_before_send(Subject &subject, Mode mode) {
    const auto reader = Reader::make(mode, subject.profile.get("short"));
    reader->cancel();
    try {
        reader->send(subject.runtime);
        throw Failed("a request that was cancelled could be sent");
    } catch (const dynamo_llm::Error &error) {
        expect_status(error.status(), DYNAMO_ERROR_CANCELLED, "sending");
    }
    expect_status(dynamo_request_status(reader->handle()), DYNAMO_ERROR_CANCELLED, "the status");
    if (reader->pulls()) {
        expect(!reader->next(), "it has a response");
        expect_status(reader->answer().status, DYNAMO_ERROR_CANCELLED, "the terminal event");
        reader->check_after_end();
    }
    reader->destroy();
    reader->check_released();
}

void destroy_before_send(Subject &subject, Mode mode) {
    const auto reader = Reader::make(mode, subject.profile.get("short"));
    reader->destroy();
    reader->check_released();
}

void destroy_after_end(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    reader->wait_for_end();
    reader->destroy();
    reader->check_released();
}

void far_deadlines(Subject &subject, Mode mode) {
    const auto reader = Reader::make(mode, subject.profile.get("short"));
    dynamo_request_set_deadlines(reader->handle(), 3600000, 3600000);
    reader->send(subject.runtime);
    expect_status(reader->collect().status, DYNAMO_END, "an answer in time");
}

// ------------------------------------------------- while the engine waits for its reader, or the request for a slot

// Text that was pushed before the end is still delivered, then the terminal event.
void check_cut(Subject &subject, Reader &reader, std::int32_t status) {
    const Answer &whole = subject.whole(subject.profile.very_long());
    const Answer &answer = reader.collect();
    expect_status(answer.status, status, "the terminal event");
    expect_part(answer, whole);
    reader.check_after_end();
}

void cancel_at_once(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.very_long(), true);
    reader->cancel();
    check_cut(subject, *reader, DYNAMO_ERROR_CANCELLED);
}

void cancel_in_decode(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.very_long(), true);
    expect(reader->next(), "there is no response");
    reader->cancel();
    reader->cancel();  // harmless
    check_cut(subject, *reader, DYNAMO_ERROR_CANCELLED);
}

// Queued, in prefill, or waiting for its reader: the request ends, and no text follows the cancel.
void cancel_in_prefill(Subject &subject, Mode mode) {
    const std::string body = subject.profile.get("prefill");
    const Answer &whole = subject.whole(body);
    const auto reader = subject.sent(mode, body, true);
    usleep(1000);
    reader->cancel();
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_ERROR_CANCELLED, "the terminal event");
    expect_part(answer, whole);
    reader->check_after_end();
}

void destroy_at_once(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.very_long(), true);
    reader->destroy();
    reader->check_released();
}

void destroy_in_decode(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.very_long(), true);
    expect(reader->next(), "there is no response");
    reader->destroy();
    reader->check_released();
}

void cancel_while_queued(Subject &subject, Mode mode) {
    const auto busy = subject.keep_busy();
    const auto reader = subject.sent(mode, subject.profile.very_long());
    reader->cancel();
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_ERROR_CANCELLED, "the terminal event");
    expect(answer.responses == 0, "it was answered, though the engine was busy");
}

void destroy_while_queued(Subject &subject, Mode mode) {
    const auto busy = subject.keep_busy();
    const auto reader = subject.sent(mode, subject.profile.very_long());
    reader->destroy();
    reader->check_released();
}

void queued_gets_its_turn(Subject &subject, Mode mode) {
    auto busy = subject.keep_busy();
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    expect_status(dynamo_request_status(reader->handle()), DYNAMO_PENDING, "a request that waits");
    busy.clear();
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_END, "a request that had to wait");
    expect_same(answer, subject.whole(subject.profile.get("short")));
}

void first_token_deadline(Subject &subject, Mode mode) {
    std::vector<std::unique_ptr<Reader>> busy;
    std::string body;
    try {
        body = subject.profile.get("silent");
    } catch (const Skipped &) {
        busy = subject.keep_busy();
        body = subject.profile.very_long();
    }
    const auto reader = Reader::make(mode, body);
    dynamo_request_set_deadlines(reader->handle(), 30, -1);
    reader->send(subject.runtime);
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_ERROR_DEADLINE_EXCEEDED, "the terminal event");
    expect(answer.responses == 0, "something came");
    reader->check_after_end();
}

void total_deadline(Subject &subject, Mode mode) {
    subject.whole(subject.profile.very_long());
    const auto reader = Reader::make(mode, subject.profile.very_long(), true);
    dynamo_request_set_deadlines(reader->handle(), -1, 50);
    reader->send(subject.runtime);
    expect_status(reader->wait_for_end(), DYNAMO_ERROR_DEADLINE_EXCEEDED, "an answer that waits");
    check_cut(subject, *reader, DYNAMO_ERROR_DEADLINE_EXCEEDED);
}

}  // namespace

const std::vector<Case> end_cases = {
    {"end again", end_again},
    {"cancel before sending", cancel_before_send},
    {"destroy before sending", destroy_before_send},
    {"destroy after the end", destroy_after_end},
    {"deadlines far away", far_deadlines},
};

const std::vector<Case> narrow_cases = {
    {"cancel at once", cancel_at_once},
    {"cancel in prefill", cancel_in_prefill},
    {"cancel in decode", cancel_in_decode},
    {"cancel while queued", cancel_while_queued},
    {"queued gets its turn", queued_gets_its_turn},
    {"destroy at once", destroy_at_once},
    {"destroy in decode", destroy_in_decode},
    {"destroy while queued", destroy_while_queued},
    {"deadline to the first token", first_token_deadline},
    {"deadline to the end", total_deadline},
};
