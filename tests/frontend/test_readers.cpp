// SPDX-License-Identifier: Apache-2.0
// Responses, events, and requests of Dynamo's frontend: what is read does not depend on how the bytes are split.
#include <algorithm>
#include <string>
#include <vector>

#include "frontend/answer_event.hpp"
#include "frontend/event_stream.hpp"
#include "frontend/http_request.hpp"
#include "frontend/http_response.hpp"

extern "C" {
#include "../c/support.h"
}

using namespace dynamo::frontend;

namespace {

// Reads a response in pieces of this size. Returns the body, or "error: " and the message.
std::string body_of(const std::string &bytes, std::size_t piece, HttpResponse &response) {
    std::string body;
    try {
        for (std::size_t at = 0; at < bytes.size(); at += piece) {
            response.feed(std::string_view(bytes).substr(at, piece), body);
        }
    } catch (const ProtocolError &error) {
        return std::string("error: ") + error.what();
    }
    return body;
}

const std::string chunked =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTRANSFER-ENCODING: Chunked\r\n\r\n";

void responses() {
    const std::string given[][2] = {
        {chunked + "5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\n",
         "helloabcdefghijklmnopqrstuvwxyz"},
        {"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabc", "abc"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204\r\ncontent-length: 0\r\n\r\n", ""},
    };
    for (const auto &[bytes, body] : given) {
        for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
            HttpResponse response;
            CHECK(body_of(bytes, piece, response) == body && response.is_complete());
            CHECK(response.keeps_alive());
        }
    }
    HttpResponse closing;
    body_of("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", 7, closing);
    CHECK(closing.is_complete() && !closing.keeps_alive());
    closing.reset();
    CHECK(closing.status() == 0 && !closing.is_complete() && closing.keeps_alive());
}

void responses_that_are_refused() {
    const std::string given[][2] = {
        {"HTTP/1.0 200 OK\r\n\r\n", "not HTTP/1.1"},
        {"HTTP/1.1 2x0 OK\r\n\r\n", "invalid status"},
        {"HTTP/1.1 200 OK\r\n\r\n", "without a length"},
        {"HTTP/1.1 200 OK\r\nbroken\r\n\r\n", "invalid header field"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "with two"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "with two"},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "invalid length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "invalid length"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer encoding"},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n",
         "content encoding"},
        {chunked + "x\r\n", "invalid chunk size"},
        {chunked + "11111111111111111\r\n", "invalid chunk size"},
        {chunked + "1\r\nab\r\n", "chunk that is too long"},
        {chunked + "1\n", "CRLF"},
        {chunked + std::string(2000, '0'), "line that is too long"},
        {chunked + "0\r\n\r\nHTTP/1.1", "after an HTTP response"},
        {"HTTP/1.1 200 OK\r\nA: " + std::string(70000, 'x'), "too long"},
    };
    for (const auto &[bytes, why] : given) {
        for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, bytes.size()}) {
            HttpResponse response;
            const std::string body = body_of(bytes, piece, response);
            if (body.find(why) == std::string::npos) {
                std::fprintf(stderr, "expected %s, not %s\n", why.c_str(), body.c_str());
            }
            CHECK(body.find("error: ") != std::string::npos && body.find(why) != std::string::npos);
        }
    }
}

std::vector<std::string> events_of(const std::string &bytes, std::size_t piece) {
    EventStream stream;
    std::vector<std::string> events;
    EventStream::Event event;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        stream.buffer().append(bytes, at, piece);
        while (stream.next(event)) {
            events.push_back(std::string(event.name) + "|" + std::string(event.data));
        }
        stream.compact();
    }
    return events;
}

void events() {
    const std::string bytes =
        ": a comment\n\ndata: one\n\n\n\nevent: error\ndata:two\ndata: three\ndata\n\n"
        "data: four\r\nid: 7\r\n\r\ndata: {\"a\": 1}\n\nevent: none\n\ndata: unfinished\n";
    const std::vector<std::string> expected = {"|one", "error|two\nthree\n", "|four",
                                               "|{\"a\": 1}"};
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
        CHECK(events_of(bytes, piece) == expected);
    }
}

void answers() {
    AnswerEvent event;
    event.read(
        R"({"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a\u00e9\n"},
        "finish_reason": null, "logprobs": null}], "usage": null, "nvext": {"completion_token_ids": [7, 4294967295]}})");
    CHECK(event.text == "a\xc3\xa9\n" && event.delta_json.empty() && event.finish_reason.empty());
    CHECK(event.token_ids == (std::vector<std::uint32_t>{7, 4294967295U}) && !event.usage);
    event.read(R"({"choices": [{"text": "b", "index": 0, "finish_reason": "stop"}]})");
    CHECK(event.text == "b" && event.token_ids.empty() && event.finish_reason == "stop");
    event.read(
        R"({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": null}}})");
    CHECK(event.usage && event.usage->prompt_tokens == 3 && event.usage->completion_tokens == 4 &&
          event.usage->cached_tokens == 2 && event.is_empty());
    event.read(R"({"choices": [{"index": 0, "delta": {"content": null, "reasoning_content": "hm",
        "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a\": 1.5}"}}]}}]})");
    CHECK(event.text.empty());
    CHECK_TEXT(
        event.delta_json.c_str(),
        R"({"reasoning_content":"hm","tool_calls":[{"function":{"arguments":"{\"a\": 1.5}","name":"f"},"id":"c","index":0}]})");
    for (const char *const text :
         {R"({"error": "no"})", R"({"error": {"message": "no", "code": 503}})"}) {
        event.read(text);
        CHECK(event.is_error);
    }
    event.read(R"({"choices": [{"text": "error", "index": 0}], "nvext": {"error": "x"}})");
    CHECK(!event.is_error && event.text == "error");
    for (const char *const text :
         {"", "{", "[1] 2", R"({"choices": [{"index": 1}]})", R"({"choices": [{}, {}]})",
          R"({"nvext": {"completion_token_ids": [4294967296]}})",
          R"({"nvext": {"completion_token_ids": [-1]}})", R"({"usage": {"prompt_tokens": -2}})"}) {
        bool is_refused = false;
        try {
            event.read(text);
        } catch (const ProtocolError &) {
            is_refused = true;
        }
        CHECK(is_refused);
    }
}

void requests() {
    Target target;
    target.port = 1;
    target.models = {
        {"a", {"a", 1000, 50}}, {"alias", {"b"}}, {"only", {"only", 0, 0, {"prompt", "input"}}}};
    const auto request = [&](const char *body) {
        return http_request(target, "A: b\r\n", body).value_or(HttpRequest()).bytes;
    };
    const std::string chat = request(
        R"({"model": "alias", "messages": [{"role": "user", "content": "x"}], "stream": false, "max_tokens": 3,
            "temperature": null, "n": 1, "stream_options": {"include_usage": false}})");
    const std::string body =
        R"({"messages":[{"role":"user","content":"x"}],"max_tokens":3,"stream":true,)"
        R"("stream_options":{"include_usage":true},"nvext":{"extra_fields":["completion_token_ids"]},"model":"b"})";
    const std::string head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
        "application/json\r\nContent-Length: ";
    if (chat != head + std::to_string(body.size()) + "\r\nA: b\r\n\r\n" + body) {
        std::fprintf(stderr, "%s\n", chat.c_str());
    }
    CHECK(chat == head + std::to_string(body.size()) + "\r\nA: b\r\n\r\n" + body);
    CHECK(request(R"({"model": "a", "prompt": [1, 2], "max_tokens": 1})").substr(0, 20) ==
          "POST /v1/completions");
    CHECK(request(R"({"model": "a", "prompt": "x", "max_tokens": 1, "top_k": 3, "top_p": 0.5})") !=
          "");
    const char *const for_python[] = {
        "",
        "[]",
        "{}",
        R"({"prompt": "x"})",                // no default model
        R"({"model": "c", "prompt": "x"})",  // an unknown one
        R"({"model": 1, "prompt": "x"})",
        R"({"model": "a", "prompt": ["x", "y"]})",
        R"({"model": "a", "prompt": ""})",
        R"({"model": "a", "prompt": "x"})",   // Dynamo's default for "max_tokens" is 16
        R"({"model": "a", "prompt": [50]})",  // is not in the vocabulary
        R"({"model": "a", "prompt": "x", "max_tokens": 999})",  // may not fit
        R"({"model": "a", "messages": [{"role": "user", "content": "x"}], "max_tokens": 488})",
        R"({"model": "a", "prompt": "x", "max_tokens": 0})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "top_p": 0})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "repetition_penalty": 0})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "min_tokens": 1})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "stop": "END"})",
        R"({"model": "a", "messages": []})",
        R"({"model": "a", "messages": [{"role": "user", "content": "x", "name": "y"}]})",
        R"({"model": "a", "prompt": []})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "n": 2})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "logprobs": 1})",
        R"({"model": "a", "prompt": "x", "max_tokens": 1, "unknown": 1})",
        R"({"model": "a", "input": "x"})",
        R"({"model": "a", "messages": [{"role": "user"}]})",
        R"({"model": "a", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
        R"({"model": "a", "messages": [{"role": "user", "content": "x"}], "tools": []})",
    };
    for (const char *const each : for_python) {
        CHECK(request(each).empty());
    }
    CHECK(request(R"({"model": "only", "prompt": [7], "max_tokens": 1})") != "");
    CHECK(request(R"({"model": "only", "input": ["x"], "encoding_format": "float"})")
              .find("POST /v1/embeddings") == 0);
    CHECK(request(R"({"model": "only", "input": ["x"], "encoding_format": "base64"})").empty());
    CHECK(request(R"({"model": "only", "messages": [{"role": "user", "content": "x"}]})").empty());
    target.models["only"].only_for = {"input"};
    CHECK(request(R"({"model": "only", "prompt": [7], "max_tokens": 1})").empty());
    target.default_model = "a";
    CHECK(request(R"({"prompt": "x", "max_tokens": 1})").find(R"("model":"a")") !=
          std::string::npos);
}

}  // namespace

int main() {
    BEGIN();
    RUN(responses);
    RUN(responses_that_are_refused);
    RUN(events);
    RUN(answers);
    RUN(requests);
    return 0;
}
