// SPDX-License-Identifier: Apache-2.0
// Errors keep status, message and details, whether thrown or returned.
#include "support.hpp"

static_assert(std::is_base_of_v<std::exception, Error>);
static_assert(std::is_nothrow_move_constructible_v<Error> && std::is_copy_constructible_v<Error>);
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
static_assert(std::is_same_v<dynamo_llm::Returned<Runtime>, dynamo_llm::Result<Runtime>>);
#else
static_assert(std::is_same_v<dynamo_llm::Returned<Runtime>, Runtime>);
#endif

static void an_error_has_all_its_details() {
    const Error error =
        error_of([] { return Runtime::create("{\"engine\": \"echo\", \"colour\": 1}"); });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_TEXT(error.status_name(), "DYNAMO_ERROR_INVALID_CONFIG");
    CHECK_CONTAINS(error.what(), "unknown key \"colour\"");
    CHECK(error.message() == error.what());
    CHECK_CONTAINS(error.json().c_str(), "\"name\":\"DYNAMO_ERROR_INVALID_CONFIG\"");
    CHECK_CONTAINS(error.json().c_str(), "unknown key \\\"colour\\\"");
    CHECK(!error.is_retriable() && !error.is_fatal());
    const Error copy = error;
    CHECK(std::strcmp(copy.what(), error.what()) == 0 && copy.json() == error.json());
    CHECK(dynamo_request_create("{}") == nullptr);  // a later error does not change the object
    CHECK_STATUS(Error::last().status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_CONTAINS(error.what(), "colour");
}

static void flags_are_members_and_no_text() {
    const Runtime runtime = start_cpp("scripted");
    const Error overloaded = error_of([&] {
        return runtime.send(script("[{'refuse': {'status': 'OVERLOADED', 'message': 'full'}}]"));
    });
    CHECK_STATUS(overloaded.status(), DYNAMO_ERROR_OVERLOADED);
    CHECK(overloaded.is_retriable() && !overloaded.is_fatal());
    const Error pretends = error_of([&] {
        return runtime.send(Completion(
            "[{\"refuse\": {\"message\": \"\\\"retriable\\\":true, \\\"fatal\\\":true\"}}]"));
    });
    CHECK_CONTAINS(pretends.what(), "\"retriable\":true, \"fatal\":true");
    CHECK(!pretends.is_retriable() && !pretends.is_fatal());
    MUST(runtime.shutdown(dynamo_llm::forever));
    const Error closed = error_of([&] { return runtime.send(Completion("[]")); });
    CHECK_STATUS(closed.status(), DYNAMO_ERROR_CLOSED);
    CHECK(closed.is_fatal());
}

static void a_nul_byte_is_no_end() {
    const std::string cut("{\"prompt\": \"a\"}\0 and more", 24);
    const Error request = error_of([&] { return Request::create(cut); });
    CHECK_STATUS(request.status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(request.what(), "request_json has a NUL byte at position 15");
    CHECK_CONTAINS(request.json().c_str(), "\"name\":\"DYNAMO_ERROR_INVALID_ARGUMENT\"");
    CHECK_CONTAINS(request.json().c_str(), request.what());
    CHECK(!request.is_retriable() && !request.is_fatal());
    const Error config = error_of([] { return Runtime::create(std::string("{}\0", 3)); });
    CHECK_CONTAINS(config.what(), "config_json has a NUL byte at position 2");
    // Escaped in a JSON string, NUL is an ordinary character.
    const Runtime runtime = start_cpp();
    const std::string_view text("a\0b", 3);
    CHECK(whole_text(MUST(runtime.send(Completion(text)))) == text);
}

// An empty object left by a failed create repeats the error of that create.
static void the_first_error_is_repeated() {
    const Runtime empty(nullptr);
    CHECK_STATUS(error_of([&] { return empty.statistics(); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    const Error first =
        error_of([] { return Runtime::create("{\"engine\": \"echo\", \"colour\": 1}"); });
    const Runtime left(dynamo_runtime_create("{\"engine\": \"echo\", \"colour\": 1}"));
    CHECK(!left);
    for (const Error &error : {error_of([&] { return left.send(Completion("a")); }),
                               error_of([&] { return left.metrics(); }),
                               error_of([&] { return left.shutdown(milliseconds(0)); })}) {
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_CONFIG);
        CHECK_CONTAINS(error.what(), "the runtime is NULL, because creating it failed earlier");
        CHECK_CONTAINS(error.what(), first.what());
    }
    Request request = MUST(Request::create(Completion("a")));
    CHECK_STATUS(error_of([&] { return left.send(request); }).status(),
                 DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(error_of([&] { return request.recv(); }).what(), first.what());
    CHECK_STATUS(request.next().status, DYNAMO_ERROR_INVALID_CONFIG);
}

static void a_request_keeps_its_error() {
    const Runtime runtime = start_cpp("scripted");
    Request request = MUST(runtime.send(
        script("[{'text': 'a'}, {'error': {'status': 'CONTEXT_LENGTH', 'message': 'too long'}}]")));
    CHECK(MUST(request.recv()).text() == "a");
    const Error thrown = error_of([&] { return request.recv(); });
    const std::optional<Error> kept = request.error();
    CHECK(kept.has_value());
    for (const Error &error : {thrown, *kept}) {
        CHECK_STATUS(error.status(), DYNAMO_ERROR_CONTEXT_LENGTH);
        CHECK_TEXT(error.what(), "too long");
        CHECK(contains(error.json(), "\"engine\":\"scripted\"") &&
              contains(error.json(), request.id()));
    }
    CHECK(thrown.json() == kept->json());
    CHECK_STATUS(request.status(), DYNAMO_ERROR_CONTEXT_LENGTH);
    request = MUST(runtime.send(script("[]")));
    CHECK(!MUST(request.recv()).finish_reason().empty());
    CHECK(!MUST(request.recv()) && !request.error());
}

// On an error in the middle of an answer, the loop throws, or ends and keeps the status.
static void an_error_ends_the_loop() {
    const Runtime runtime = start_cpp("scripted");
    const Request request = MUST(runtime.send(script("[{'text': 'a'}, {'error': {}}]")));
    std::string text;
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
    for (Response &response : request) {
        text += response.text();
    }
#else
    const Error error = error_of([&] {
        for (Response &response : request) {
            text += response.text();
        }
        return 0;
    });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_ENGINE_FAILED);
#endif
    CHECK(text == "a");
    CHECK_STATUS(request.status(), DYNAMO_ERROR_ENGINE_FAILED);
}

static void mistakes_with_state() {
    const Runtime runtime = start_cpp();
    Request request = MUST(Request::create(Completion("a")));
    CHECK_STATUS(error_of([&] { return request.recv(); }).status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(error_of([&] { return request.fd(); }).status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(request.status(), DYNAMO_PENDING);
    MUST(runtime.send(request));
    CHECK_CONTAINS(error_of([&] { return runtime.send(request); }).what(), "already sent");
    CHECK_STATUS(error_of([&] { return request.set_deadlines(milliseconds(1)); }).status(),
                 DYNAMO_ERROR_INVALID_STATE);
    CHECK(whole_text(request) == "a");  // still usable
    Request cancelled = MUST(Request::create(Completion("a")));
    cancelled.cancel();
    CHECK_STATUS(error_of([&] { return runtime.send(cancelled); }).status(),
                 DYNAMO_ERROR_CANCELLED);
}

#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
static void a_result_is_one_or_the_other() {
    dynamo_llm::Result<Runtime> result = Runtime::create(Config().engine("echo"));
    CHECK(result && result->get() == (*result).get() && result.value().get() == result->get());
    const Runtime runtime = *std::move(result);
    std::string text;
    for (Response &response : *runtime.send(Completion("a b"))) {  // keeps the temporary alive
        text += response.text();
    }
    CHECK(text == "a b");
    const dynamo_llm::Result<void> done = runtime.shutdown(dynamo_llm::forever);
    CHECK(done && done.has_value());
}
#else
static void constructors_throw() {
    CHECK_STATUS(error_of([] { return Runtime("{"); }).status(), DYNAMO_ERROR_INVALID_JSON);
    CHECK_STATUS(error_of([] { return Runtime(Config().set("a", 1)); }).status(),
                 DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_STATUS(error_of([] { return Request("{}"); }).status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_STATUS(error_of([] { return Request(Chat()); }).status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK(Request(Chat("a")) && Request("{\"prompt\": \"a\"}"));
    try {
        throw error_of([] { return Request("[]"); });
    } catch (const std::exception &error) {
        CHECK_CONTAINS(error.what(), "not an array");
    }
}
#endif

int main() {
    BEGIN();
    RUN(the_first_error_is_repeated);
    RUN(an_error_has_all_its_details);
    RUN(flags_are_members_and_no_text);
    RUN(a_nul_byte_is_no_end);
    RUN(a_request_keeps_its_error);
    RUN(an_error_ends_the_loop);
    RUN(mistakes_with_state);
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
    RUN(a_result_is_one_or_the_other);
#else
    RUN(constructors_throw);
#endif
    return 0;
}
