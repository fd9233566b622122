// SPDX-License-Identifier: Apache-2.0
// The client of Dynamo's frontend against a server of this test: how requests end, whatever the server does.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dynamo_llm.h"
#include "frontend/client.hpp"

extern "C" {
#include "../c/support.h"
}

using namespace dynamo::frontend;

namespace {

// A connection to the server.
class Peer {
  public:
    explicit Peer(int fd) : fd_(fd) {}

    // Reads one request; "" if the client has closed the connection.
    std::string request() {
        std::size_t end = std::string::npos;
        while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
            if (!receive()) {
                return "";
            }
        }
        const std::size_t length =
            std::stoul(buffer_.substr(buffer_.find("Content-Length: ") + 16));
        while (buffer_.size() < end + 4 + length) {
            if (!receive()) {
                return "";
            }
        }
        std::string request = buffer_.substr(0, end + 4 + length);
        buffer_.erase(0, request.size());
        return request;
    }

    bool send(const std::string &bytes) {
        for (std::size_t at = 0; at < bytes.size();) {
            const ssize_t count = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
            if (count <= 0) {
                return false;
            }
            at += static_cast<std::size_t>(count);
        }
        return true;
    }

    bool chunk(const std::string &text) {
        char size[32];
        std::snprintf(size, sizeof size, "%zx\r\n", text.size());
        return send(size + text + "\r\n");
    }

    bool begin() {
        return send(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: "
            "chunked\r\n\r\n");
    }

    bool token(int id, const char *reason = nullptr) {
        const std::string quoted = reason == nullptr ? "null" : std::string("\"") + reason + "\"";
        return chunk("data: {\"choices\": [{\"index\": 0, \"text\": \"t" + std::to_string(id) +
                     " \", \"finish_reason\": " + quoted +
                     "}], \"nvext\": {\"completion_token_ids\": [" + std::to_string(id) +
                     "]}}\n\n");
    }

    bool done() {
        return chunk(
                   "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 5, "
                   "\"completion_tokens\": 2}}\n\n") &&
               chunk("data: [DONE]\n\n") && send("0\r\n\r\n");
    }

    bool error(int status, const std::string &body) {
        return send("HTTP/1.1 " + std::to_string(status) +
                    " No\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    }

    // The other end, as "127.0.0.1:1234".
    std::string source() const {
        sockaddr_in address{};
        socklen_t size = sizeof address;
        CHECK(::getpeername(fd_, reinterpret_cast<sockaddr *>(&address), &size) == 0);
        char text[INET_ADDRSTRLEN];
        ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
        return std::string(text) + ":" + std::to_string(ntohs(address.sin_port));
    }

    // Whether the client closes the connection; waits for it.
    bool is_closed() {
        char byte;
        return ::recv(fd_, &byte, 1, 0) <= 0;
    }

  private:
    bool receive() {
        char bytes[4096];
        const ssize_t count = ::recv(fd_, bytes, sizeof bytes, 0);
        if (count <= 0) {
            return false;
        }
        buffer_.append(bytes, static_cast<std::size_t>(count));
        return true;
    }

    const int fd_;
    std::string buffer_;
};

// A server on a port of its own, with a thread for each connection.
class Server {
  public:
    using Handler = std::function<void(Peer &)>;

    explicit Server(Handler handler)
        : handler_(std::move(handler)), fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        CHECK(::bind(fd_, reinterpret_cast<const sockaddr *>(&address), size) == 0);
        CHECK(::listen(fd_, 512) == 0);
        CHECK(::getsockname(fd_, reinterpret_cast<sockaddr *>(&address), &size) == 0);
        port = ntohs(address.sin_port);
        thread_ = std::thread([this] { run(); });
    }

    ~Server() {
        ::shutdown(fd_, SHUT_RDWR);
        thread_.join();
        ::close(fd_);
        std::vector<std::thread> threads;
        {
            const std::lock_guard lock(mutex_);
            for (const int fd : open_) {
                ::shutdown(fd, SHUT_RDWR);
            }
            threads.swap(threads_);
        }
        for (std::thread &each : threads) {
            each.join();
        }
    }

    int port = 0;
    std::atomic<int> connections{0};

  private:
    void run() {
        for (;;) {
            const int fd = ::accept(fd_, nullptr, nullptr);
            if (fd < 0) {
                return;
            }
            ++connections;
            const std::lock_guard lock(mutex_);
            open_.push_back(fd);
            threads_.emplace_back([this, fd] {
                Peer peer(fd);
                handler_(peer);
                const std::lock_guard inner(mutex_);
                open_.erase(std::find(open_.begin(), open_.end(), fd));
                ::close(fd);
            });
        }
    }

    Handler handler_;
    int fd_;
    std::mutex mutex_;
    std::vector<int> open_;
    std::vector<std::thread> threads_;
    std::thread thread_;
};

// What Python would do: it answers with "python", and reports failures with the HTTP status and the text.
std::atomic<std::uint64_t> last_instance{0};

void set_target(std::uint64_t instance, int port, int silence_ms = 0) {
    client::set_target(
        instance,
        "{\"port\": " + std::to_string(port) + ", \"silence_ms\": " + std::to_string(silence_ms) +
            R"(, "default_model": "m", "models": {"m": {"name": "m", "context_length": 0, "vocab_size": 0, "only_for": []}, "e": {"name": "e", "context_length": 0,
        "vocab_size": 0, "only_for": ["prompt", "input"]}}})");
}

std::int32_t finish_in_python(dynamo_stream_t *stream) {
    dynamo_chunk_t chunk{};
    chunk.struct_size = sizeof chunk;
    chunk.text = "python";
    chunk.text_length = 6;
    dynamo_stream_push(stream, &chunk);
    return dynamo_stream_finish(stream, "stop", nullptr);
}

void register_engine() {
    client::set_callbacks(
        {[](std::uint64_t, dynamo_stream_t *stream, const std::string &id,
            const std::string &body) {
             CHECK(!id.empty() && body.find("prompt") != std::string::npos);
             return std::thread([stream] { finish_in_python(stream); }).detach(), true;
         },
         [](std::uint64_t, dynamo_stream_t *stream, int status, std::string text) {
             const std::string message = std::to_string(status) + " " + text;
             dynamo_stream_fail(stream, DYNAMO_ERROR_ENGINE_FAILED, message.c_str(), nullptr);
         }});
    dynamo_engine_t engine{};
    engine.struct_size = sizeof engine;
    engine.start = [](void *, const char *, void **instance) -> std::int32_t {
        *instance = reinterpret_cast<void *>(static_cast<std::uintptr_t>(++last_instance));
        return DYNAMO_OK;
    };
    engine.generate = [](void *instance, dynamo_stream_t *stream, const char *id,
                         const char *body) -> std::int32_t {
        return client::send(reinterpret_cast<std::uintptr_t>(instance), stream, id, body)
                   ? DYNAMO_OK
                   : finish_in_python(stream);
    };
    engine.cancel = [](void *, dynamo_stream_t *stream) { client::cancel(stream); };
    engine.on_writable = [](void *, dynamo_stream_t *stream) { client::resume(stream); };
    engine.stop = [](void *instance) {
        client::remove_target(reinterpret_cast<std::uintptr_t>(instance));
    };
    CHECK_STATUS(dynamo_engine_register("fronted", &engine, nullptr, nullptr), DYNAMO_OK);
}

// A runtime whose requests go to a server.
struct Sender {
    explicit Sender(int port, const char *more = "")
        : runtime(
              dynamo_runtime_create((std::string(R"({"engine": "fronted")") + more + "}").c_str())),
          instance(last_instance) {
        CHECK(runtime != nullptr);
        set_target(instance, port);
    }
    ~Sender() { dynamo_runtime_destroy(runtime); }

    dynamo_request_t *send(const char *body = R"({"prompt": "x", "max_tokens": 9})") const {
        dynamo_request_t *const request = dynamo_request_create(body);
        CHECK(request != nullptr);
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_OK);
        return request;
    }

    dynamo_runtime_t *runtime;
    std::uint64_t instance;
};

// All of an answer: its text, the ids, and how it ended.
struct Answer {
    std::string text;
    std::vector<std::uint32_t> ids;
    std::string end;  // the finish reason, or the error
};

Answer receive(dynamo_request_t *request) {
    Answer answer;
    for (;;) {
        dynamo_response_t *response = nullptr;
        const std::int32_t status = dynamo_request_next(request, 60000, &response);
        CHECK(status != DYNAMO_PENDING);
        if (status != DYNAMO_OK) {
            if (status < 0) {
                answer.end = dynamo_request_error(request);
            }
            dynamo_request_destroy(request);
            return answer;
        }
        std::size_t count = 0;
        answer.text += dynamo_response_text(response, nullptr);
        const std::uint32_t *const ids = dynamo_response_token_ids(response, &count);
        answer.ids.insert(answer.ids.end(), ids, ids + count);
        if (const char *const reason = dynamo_response_finish_reason(response); reason != nullptr) {
            answer.end = reason;
        }
        dynamo_free(response);
    }
}

void answer_two_tokens(Peer &peer) {
    while (!peer.request().empty()) {
        peer.begin();
        peer.token(1);
        peer.token(2, "length");
        peer.done();
    }
}

void tokens_and_usage() {
    const Server server(answer_two_tokens);
    const Sender sender(server.port);
    dynamo_request_t *const request = sender.send();
    dynamo_usage_t usage{};
    usage.struct_size = sizeof usage;
    while (dynamo_request_status(request) == DYNAMO_PENDING) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK_STATUS(dynamo_request_usage(request, &usage), DYNAMO_OK);
    CHECK(usage.prompt_tokens == 5 && usage.completion_tokens == 2);
    const Answer answer = receive(request);
    CHECK(answer.text == "t1 t2 " && answer.ids == (std::vector<std::uint32_t>{1, 2}));
    CHECK_TEXT(answer.end.c_str(), "length");
}

void connections_are_reused() {
    const Server server(answer_two_tokens);
    const Sender sender(server.port);
    const client::Counts before = client::counts();
    for (int i = 0; i < 50; ++i) {
        CHECK(receive(sender.send()).text == "t1 t2 ");
    }
    CHECK(server.connections < 10);
    CHECK(client::counts().answered == before.answered + 50 &&
          client::counts().handed_over == before.handed_over);
}

void many_at_once() {
    const Server server(answer_two_tokens);
    const Sender sender(server.port);
    std::vector<dynamo_request_t *> requests;
    for (int i = 0; i < 200; ++i) {
        requests.push_back(sender.send());
    }
    for (dynamo_request_t *const request : requests) {
        CHECK(receive(request).text == "t1 t2 ");
    }
}

// A server that closes connections which nobody uses: the next request takes another one.
void a_reused_connection_has_ended() {
    const Server server([](Peer &peer) {
        peer.request();
        peer.begin();
        peer.token(7, "stop");
        peer.done();
    });
    const Sender sender(server.port);
    const std::uint64_t before = client::counts().handed_over;
    for (int i = 0; i < 20; ++i) {
        CHECK(receive(sender.send()).text == "t7 ");
    }
    CHECK(client::counts().handed_over == before);
}

void refusals_go_to_python() {
    for (const int status : {400, 404, 413, 429, 500, 503}) {
        const Server server([status](Peer &peer) {
            peer.request();
            peer.error(status, "{\"message\": \"no\"}");
        });
        const Sender sender(server.port);
        const std::uint64_t before = client::counts().handed_over;
        CHECK(receive(sender.send()).text == "python");
        CHECK(client::counts().handed_over == before + 1);
    }
    const Server events([](Peer &peer) {
        peer.request();
        peer.begin();
        peer.chunk("event: error\ndata: {\"error\": {\"message\": \"gone\", \"code\": 503}}\n\n");
    });
    CHECK(receive(Sender(events.port).send()).text == "python");
    const Server closing([](Peer &peer) { peer.request(); });
    CHECK(receive(Sender(closing.port).send()).text == "python");
    int unused = 0;
    {
        const Server ended([](Peer &) {});
        unused = ended.port;
    }
    CHECK(receive(Sender(unused).send()).text == "python");
}

void failures_have_a_status() {
    const Server server([](Peer &peer) {
        peer.request();
        peer.error(504, "late");
    });
    CHECK_TEXT(receive(Sender(server.port).send()).end.c_str(), "504 late");
    const struct {
        const char *sent;
        const char *end;
    } later[] = {
        {"data: {\"error\": {\"message\": \"gone\", \"code\": 503}}\n\n",
         "503 {\"error\": {\"message\": \"gone\", \"code\": 503}}"},
        {"event: error\ndata: gone\n\n", "500 gone"},
        {"data: {\n\n",
         "0 Dynamo's frontend sent an event of an answer is not valid JSON at byte 2"},
        {"data: {\"choices\": [{\"index\": 3}]}\n\n",
         "0 Dynamo's frontend sent an event of an answer belongs to choice 3, but the request has "
         "one"},
        {"data: [DONE]\n\n", "500 Dynamo's frontend ended an answer without a finish_reason"},
        {"", "503 Dynamo's frontend closed the connection before the answer was complete"},
    };
    for (const auto &each : later) {
        const Server failing([&](Peer &peer) {
            peer.request();
            peer.begin();
            peer.token(1);
            if (*each.sent != '\0') {
                peer.chunk(each.sent);
            }
        });
        const Answer answer = receive(Sender(failing.port).send());
        CHECK(answer.text == "t1 ");
        CHECK_TEXT(answer.end.c_str(), each.end);
    }
}

// The server notices a cancel at once.
void cancel_closes_the_connection() {
    std::atomic<bool> is_closed{false};
    const Server server([&](Peer &peer) {
        peer.request();
        peer.begin();
        peer.token(1);
        is_closed = peer.is_closed();
    });
    const Sender sender(server.port);
    dynamo_request_t *const request = sender.send();
    dynamo_response_t *response = nullptr;
    CHECK_STATUS(dynamo_request_next(request, 60000, &response), DYNAMO_OK);
    dynamo_free(response);
    dynamo_request_cancel(request);
    for (int i = 0; i < 6000 && !is_closed; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    CHECK(is_closed);
    dynamo_request_destroy(request);
}

// A full stream is not read further, and loses nothing.
void a_slow_reader() {
    constexpr int count = 5000;
    const std::string comment = ": " + std::string(8000, 'x') + "\n\n";  // more than sockets buffer
    std::atomic<int> sent{0};
    const Server server([&](Peer &peer) {
        peer.request();
        peer.begin();
        for (int i = 0; i < count; ++i) {
            peer.chunk(comment);
            peer.token(i, i == count - 1 ? "stop" : nullptr);
            sent = i + 1;
        }
        peer.done();
    });
    const Sender sender(server.port, R"(, "stream": {"capacity": 8})");
    dynamo_request_t *const request = sender.send();
    int before = -1;
    while (sent != before) {  // until the server cannot send any more
        before = sent;
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
    CHECK(sent < count);
    const Answer answer = receive(request);
    CHECK(answer.ids.size() == count);
    for (int i = 0; i < count; ++i) {
        CHECK(answer.ids[static_cast<std::size_t>(i)] == static_cast<std::uint32_t>(i));
    }
    CHECK_TEXT(answer.end.c_str(), "stop");
}

// The end of a response comes when the stream, which was full, has been read: the connection can be used again.
void a_late_end_after_a_full_stream() {
    std::atomic<bool> is_read{false};
    const Server server([&](Peer &peer) {
        while (!peer.request().empty()) {
            peer.begin();
            std::string all;
            for (int i = 0; i < 30; ++i) {
                all +=
                    "data: {\"choices\": [{\"index\": 0, \"text\": \"a\", \"finish_reason\": "
                    "\"stop\"}]}\n\n";
            }
            peer.chunk(all + "data: [DONE]\n\n");
            for (int i = 0; i < 1000 && !is_read; ++i) {
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
            }
            peer.send("0\r\n\r\n");
        }
    });
    const Sender sender(server.port, R"(, "stream": {"capacity": 4})");
    for (int i = 0; i < 5; ++i) {
        is_read = false;
        CHECK(receive(sender.send()).text == std::string(30, 'a'));
        is_read = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    CHECK(server.connections < 3);
}

// What came before the end of a connection is delivered, also if the stream was full then.
void a_full_stream_and_a_lost_connection() {
    for (const char *const end : {"", "z\r\n"}) {
        const Server server([&](Peer &peer) {
            peer.request();
            peer.begin();
            for (int i = 0; i < 30; ++i) {
                peer.token(i);
            }
            peer.send(end);
        });
        const Sender sender(server.port, R"(, "stream": {"capacity": 4})");
        dynamo_request_t *const request = sender.send();
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        const Answer answer = receive(request);
        CHECK(answer.ids.size() == 30);
        CHECK_TEXT(
            answer.end.c_str(),
            *end == '\0'
                ? "503 Dynamo's frontend closed the connection before the answer was complete"
                : "0 Dynamo's frontend sent an HTTP response with an invalid chunk size");
    }
}

// Models that Python cannot answer for: their errors are the server's. Embeddings are one object.
void only_the_frontend() {
    std::atomic<int> status{200};
    const Server server([&](Peer &peer) {
        const std::string request = peer.request();
        if (status == 200) {
            CHECK(request.substr(0, 20) == "POST /v1/embeddings ");
            peer.error(
                200,
                R"({"data": [{"index": 0, "embedding": [0.5, -1]}], "usage": {"prompt_tokens": 3}})");
        } else if (status != 0) {
            peer.error(status, "no such thing");
        }
    });
    const Sender sender(server.port);
    dynamo_request_t *const request = sender.send(R"({"model": "e", "input": "x"})");
    dynamo_response_t *response = nullptr;
    CHECK_STATUS(dynamo_request_next(request, 60000, &response), DYNAMO_OK);
    CHECK(std::string(dynamo_response_json(response)).find("\"embedding\":[0.5,-1") !=
          std::string::npos);
    dynamo_free(response);
    CHECK(receive(request).end.empty());
    status = 404;
    CHECK_TEXT(
        receive(sender.send(R"({"model": "e", "prompt": "x", "max_tokens": 9})")).end.c_str(),
        "404 no such thing");
    status = 0;
    CHECK_TEXT(
        receive(sender.send(R"({"model": "e", "prompt": "x", "max_tokens": 9})")).end.c_str(),
        "503 Dynamo's frontend in this process did not answer");
}

// All connections come from the port that the process holds, from different addresses.
void connections_come_from_one_port() {
    std::mutex mutex;
    std::vector<std::string> sources;
    const Server server([&](Peer &peer) {
        {
            const std::lock_guard lock(mutex);
            sources.push_back(peer.source());
        }
        answer_two_tokens(peer);
    });
    const Sender sender(server.port);
    std::vector<dynamo_request_t *> requests;
    for (int i = 0; i < 20; ++i) {
        requests.push_back(sender.send());
    }
    for (dynamo_request_t *const request : requests) {
        CHECK(receive(request).text == "t1 t2 ");
    }
    const std::lock_guard lock(mutex);
    const std::string port = ":" + std::to_string(client::source_port());
    for (const std::string &source : sources) {
        CHECK(source.substr(0, 4) == "127." && source.substr(source.find(':')) == port);
    }
    std::sort(sources.begin(), sources.end());
    CHECK(!sources.empty() && std::unique(sources.begin(), sources.end()) == sources.end());
}

// A worker that does not begin to answer. One that has begun may take longer.
void silence_goes_to_python() {
    const Server server([](Peer &peer) {
        peer.request();
        peer.begin();
        peer.is_closed();
    });
    Sender sender(server.port);
    set_target(sender.instance, server.port, 50);
    CHECK(receive(sender.send()).text == "python");
    const Server slow([](Peer &peer) {
        peer.request();
        peer.begin();
        peer.token(1);
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        peer.token(2, "stop");
        peer.done();
    });
    set_target(sender.instance, slow.port, 200);
    CHECK(receive(sender.send()).text == "t1 t2 ");
}

void targets_change() {
    const Server first(answer_two_tokens);
    const Server second([](Peer &peer) {
        while (!peer.request().empty()) {
            peer.begin();
            peer.token(9, "stop");
            peer.done();
        }
    });
    const Sender sender(first.port);
    CHECK(receive(sender.send()).text == "t1 t2 ");
    set_target(sender.instance, second.port);
    CHECK(receive(sender.send()).text == "t9 ");
    client::remove_target(sender.instance);
    CHECK(receive(sender.send()).text == "python");
}

// The last test: the client takes no more requests.
void closing_ends_all() {
    const Server server([](Peer &peer) {
        peer.request();
        peer.begin();
        peer.token(1);
        peer.is_closed();
    });
    const Sender sender(server.port);
    dynamo_request_t *const request = sender.send();
    dynamo_response_t *response = nullptr;
    CHECK_STATUS(dynamo_request_next(request, 60000, &response), DYNAMO_OK);
    dynamo_free(response);
    client::close("it ends", true);
    CHECK_TEXT(receive(request).end.c_str(), "it ends");
    CHECK(receive(sender.send()).text == "python");
}

}  // namespace

int main() {
    BEGIN();
    register_engine();
    RUN(tokens_and_usage);
    RUN(connections_are_reused);
    RUN(many_at_once);
    RUN(a_reused_connection_has_ended);
    RUN(refusals_go_to_python);
    RUN(failures_have_a_status);
    RUN(cancel_closes_the_connection);
    RUN(a_slow_reader);
    RUN(a_late_end_after_a_full_stream);
    RUN(a_full_stream_and_a_lost_connection);
    RUN(only_the_frontend);
    RUN(connections_come_from_one_port);
    RUN(silence_goes_to_python);
    RUN(targets_change);
    RUN(closing_ends_all);
    return 0;
}
