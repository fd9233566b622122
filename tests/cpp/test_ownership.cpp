// SPDX-License-Identifier: Apache-2.0
// Ownership: each object has one handle, is move-only, and releases the handle exactly once.
#include <memory>
#include <vector>

#include "support.hpp"

static_assert(sizeof(Runtime) == sizeof(void *) && sizeof(Request) == sizeof(void *) &&
              sizeof(Response) == sizeof(void *));

template <class Object>
constexpr bool is_move_only =
    std::is_nothrow_move_constructible_v<Object> && std::is_nothrow_move_assignable_v<Object> &&
    !std::is_copy_constructible_v<Object> && !std::is_copy_assignable_v<Object>;
static_assert(is_move_only<Runtime> && is_move_only<Request> && is_move_only<Response> &&
              is_move_only<Queue> && is_move_only<Tokenizer> && is_move_only<Detokenizer>);

// Without exceptions a constructor could not report that it failed.
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
static_assert(!std::is_default_constructible_v<Runtime> &&
              !std::is_default_constructible_v<Tokenizer>);
#endif

// Numbers and null pointers of other types must not convert to an object implicitly.
static_assert(!std::is_convertible_v<dynamo_request_t *, Request> &&
              !std::is_convertible_v<dynamo_runtime_t *, Runtime> &&
              !std::is_convertible_v<std::string, Request> && !std::is_convertible_v<int, Request>);

static bool is_request(dynamo_request_t *handle) {
    return dynamo_request_status(handle) != DYNAMO_ERROR_INVALID_HANDLE;
}

static void a_handle_is_destroyed_with_its_owner() {
    dynamo_request_t *handle;
    {
        const Request request = MUST(Request::create(Completion("a")));
        handle = request.get();
        CHECK(request && is_request(handle));
    }
    CHECK(!is_request(handle));
}

static void moving_empties_and_assigning_gives_up() {
    Request first = MUST(Request::create(Completion("a")));
    Request second = MUST(Request::create(Completion("b")));
    dynamo_request_t *const one = first.get();
    dynamo_request_t *const two = second.get();
    second = std::move(first);
    CHECK(!first && second.get() == one && is_request(one) && !is_request(two));
    Request &same = second;
    second = std::move(same);
    CHECK(second.get() == one && is_request(one));
    Request third(std::move(second));
    CHECK(!second && third.get() == one);
    third = Request();
    CHECK(!third && !is_request(one));
}

static void handles_come_in_and_go_out() {
    dynamo_request_t *const handle = say("a");
    Request request(handle);
    CHECK(request.get() == handle && request.release() == handle && !request);
    CHECK(is_request(handle));
    request = Request(handle);
    std::vector<Request> many;  // moves its elements when it grows
    for (int i = 0; i < 20; ++i) {
        many.push_back(MUST(Request::create(Completion("a"))));
    }
    many.push_back(std::move(request));
    CHECK(many.back().get() == handle);
    many.clear();
    CHECK(!is_request(handle));
}

// Empty and moved-from objects return errors and empty values.
static void empty_objects_are_harmless() {
    Request request;
    Runtime runtime(nullptr);
    const Response response;
    CHECK(!request && !runtime && !response);
    CHECK(response.text().empty() && response.token_ids().empty() && response.index() == 0);
    CHECK(response.finish_reason().empty() && !response.usage());
    CHECK_STATUS(error_of([&] { return response.json(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(request.next().status, DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(request.status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK(!request.error() && request.id().empty());
    request.cancel();
    CHECK_STATUS(error_of([&] { return request.recv(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return request.fd(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return request.set_deadlines(milliseconds(1)); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return runtime.send(request); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return runtime.send("{\"prompt\": \"a\"}"); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return runtime.models(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return runtime.metrics(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return runtime.statistics(); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(error_of([&] { return runtime.shutdown(dynamo_llm::forever); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
}

static void any_order_of_destruction() {
    Response response;
    Request request;
    {
        const Runtime runtime = start_cpp();
        request = MUST(runtime.send(Completion("a b")));
    }
    response = MUST(request.recv());
    CHECK(response && response.text()[0] == 'a');
    request = Request();
    CHECK(response.text()[0] == 'a' && response.token_ids()[0] == 0);
}

// Memory that a C caller would have to free is returned as a value.
static void responses_are_freed() {
    const Runtime runtime = start_cpp();
    const Request request = MUST(runtime.send(Completion("a b c")));
    dynamo_response_t *last = nullptr;
    for (Response &response : request) {
        if (last != nullptr) {
            CHECK(dynamo_response_text(last, nullptr) == nullptr);  // freed by the step
        }
        last = response.get();
        CHECK(dynamo_response_text(last, nullptr) != nullptr);
    }
    CHECK(last != nullptr && dynamo_response_text(last, nullptr) == nullptr);
}

int main() {
    BEGIN();
    RUN(a_handle_is_destroyed_with_its_owner);
    RUN(moving_empties_and_assigning_gives_up);
    RUN(handles_come_in_and_go_out);
    RUN(empty_objects_are_harmless);
    RUN(any_order_of_destruction);
    RUN(responses_are_freed);
    return 0;
}
