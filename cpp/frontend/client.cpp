// SPDX-License-Identifier: Apache-2.0
#include "frontend/client.hpp"

#ifdef __linux__

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/detached_thread.hpp"
#include "frontend/answer_event.hpp"
#include "frontend/event_stream.hpp"
#include "frontend/http_request.hpp"
#include "frontend/http_response.hpp"

namespace dynamo::frontend::client {
namespace {

constexpr std::string_view last_event = "[DONE]";
// Bytes that are read at once, and how often in a row from one connection.
constexpr std::size_t read_size = 16384;
constexpr int max_reads = 4;
// The HTTP status for an answer that breaks the protocol.
constexpr int bad_answer = 0;
// Most unused connections that are kept.
constexpr std::size_t most_spare = 256;
// Most bytes of an error's body that are read.
constexpr std::size_t max_error = 65536;
// File descriptors of the process that are left to others. Each request takes two: both ends are here.
constexpr std::size_t other_descriptors = 256;

using Clock = std::chrono::steady_clock;

class Socket {
  public:
    Socket() = default;
    explicit Socket(int fd) : fd_(fd) {}
    ~Socket() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;
    int fd() const noexcept { return fd_; }
    void release() noexcept { fd_ = -1; }

  private:
    int fd_ = -1;
};

struct Connection;
using ConnectionPtr = std::unique_ptr<Connection>;

struct Exchange;
// Requests with a limit until their first token, by its end.
using Unanswered = std::multimap<Clock::time_point, Exchange *>;

// One request, from send() until its stream is released. Used by the client's thread, except where noted.
struct Exchange {
    std::uint64_t instance = 0;
    dynamo_stream_t *stream = nullptr;
    std::string request_id;
    std::string body_json;  // for Python, until a token has come
    std::string request;    // HTTP, likewise
    int port = 0;
    std::int64_t silence_ms = 0;
    bool is_embedding = false;
    bool is_only_there = false;
    ConnectionPtr connection;  // while it runs; the connection refers back
    std::optional<Unanswered::iterator> unanswered;
    std::string error_text;   // of a response that is not a stream
    AnswerEvent event;        // the newest one
    bool is_waiting = false;  // its stream is full, and `event` is to be pushed again
    bool has_pushed = false;
    std::string finish_reason;
    dynamo_usage_t usage{};
    bool has_usage = false;

    // What other threads want; guarded by the mutex of Shared. Needs no memory, so that it cannot fail.
    bool is_ordered = false;  // it is in the list of orders
    bool wants_cancel = false;
    bool wants_resume = false;
    bool is_started = false;
    std::shared_ptr<Exchange> next_order;
};

struct Connection {
    explicit Connection(int fd) : socket(fd) {}
    Socket socket;
    int port = 0;
    std::uint32_t watched = 0;  // events of epoll
    std::size_t sent = 0;       // bytes of the request
    std::size_t received = 0;   // bytes of the response
    bool is_sent = false;
    bool is_reused = false;
    bool is_closed = false;
    bool is_lost = false;   // it has ended, which is to be reported after what came before
    HttpResponse response;  // complete: the connection is idle
    EventStream events;
    std::optional<std::string> problem;  // of the server, to be reported after what came before
    std::shared_ptr<Exchange>
        exchange;  // nullptr: idle, or only the end of the response is still to come
    ConnectionPtr next_closed;
};

struct Shared {
    std::mutex mutex;  // guards what follows
    std::map<std::uint64_t, std::shared_ptr<const Target>> targets;
    std::unordered_map<dynamo_stream_t *, std::shared_ptr<Exchange>> exchanges;
    std::shared_ptr<Exchange> first_order;  // a list, in order
    Exchange *last_order = nullptr;
    std::vector<int> closed_ports;  // whose unused connections are to be closed
    Counts counts;
    bool is_awake = false;
    bool is_closed = false;
    int wake_fd = -1;
    int epoll_fd = -1;              // -1: the thread does not run yet
    std::uint16_t source_port = 0;  // of all connections; held by a socket that is never closed
    std::size_t max_exchanges = 0;
    std::size_t max_spare = 0;
};

// Leaked, because threads may use it while the process exits.
Shared &shared() {
    static Shared *const instance = new Shared;
    return *instance;
}

Callbacks callbacks{};

// Most connections that the process has descriptors for.
std::size_t most_connections() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 64;
    }
    const auto all = static_cast<std::size_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
    return all <= other_descriptors ? 0 : (all - other_descriptors) / 2;
}

// Header fields with what travels beside a request: its id, as the only form that Dynamo takes, and the seconds until
// its deadline, which becomes metadata of Dynamo's context.
std::string fields_of(dynamo_stream_t *stream, std::string_view request_id) {
    constexpr std::string_view prefix = "req-";
    std::string fields;
    if (request_id.size() == prefix.size() + 16 && request_id.substr(0, prefix.size()) == prefix) {
        fields.append("x-dynamo-request-id: 00000000-0000-0000-")
            .append(request_id.substr(prefix.size(), 4))
            .append("-")
            .append(request_id.substr(prefix.size() + 4))
            .append("\r\n");
    }
    std::int64_t remaining = -1;
    if (dynamo_stream_remaining(stream, &remaining) == DYNAMO_OK && remaining >= 0) {
        const std::string milliseconds = std::to_string(1000 + remaining % 1000).substr(1);
        fields += "x-dynamo-meta-dynamo-llm-deadline-seconds: " + std::to_string(remaining / 1000) +
                  "." + milliseconds + "\r\n";
    }
    return fields;
}

// Requires the mutex.
void wake() noexcept {
    if (!std::exchange(shared().is_awake, true)) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(shared().wake_fd, &one, sizeof one);
    }
}

// Makes the thread look at a request. Requires the mutex.
void order(const std::shared_ptr<Exchange> &exchange) noexcept {
    Shared &state = shared();
    if (!std::exchange(exchange->is_ordered, true)) {
        (state.last_order == nullptr ? state.first_order : state.last_order->next_order) = exchange;
        state.last_order = exchange.get();
    }
    wake();
}

// Returns the HTTP status in an event that reports an error; 500 if it has none.
int status_of(std::string_view event) {
    const nlohmann::json given = nlohmann::json::parse(event, nullptr, false);
    for (const nlohmann::json &each :
         {given, given.is_object() ? given.value("error", given) : given}) {
        if (each.is_object() && each.contains("code") && each["code"].is_number_unsigned()) {
            return each["code"].get<int>();
        }
    }
    return 500;
}

// Whether a request that failed with this status, before its first token, must not be sent again: it would take as long
// as before, or was cancelled.
bool is_final(int status) {
    return status == 408 || status == 499 || status == 504;
}

// The client's thread.
class Reactor {
  public:
    Reactor() { spare_.reserve(most_spare); }

    [[noreturn]] void run() {
        ::pthread_setname_np(::pthread_self(), "dynamo-frontend");
        std::array<epoll_event, 256> ready;
        for (;;) {
            const int count = ::epoll_wait(shared().epoll_fd, ready.data(),
                                           static_cast<int>(ready.size()), wait_ms());
            for (int i = 0; i < count; ++i) {
                const epoll_event &event = ready[static_cast<std::size_t>(i)];
                if (event.data.ptr == nullptr) {
                    follow_orders();
                } else {
                    on_event(*static_cast<Connection *>(event.data.ptr), event.events);
                }
            }
            end_silence();
            while (closed_ != nullptr) {  // events of this round may have referred to them
                closed_ = std::move(closed_->next_closed);
            }
        }
    }

  private:
    // Milliseconds until the first request is silent for too long; -1: never.
    int wait_ms() const {
        if (unanswered_.empty()) {
            return -1;
        }
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(unanswered_.begin()->first - Clock::now());
        return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
    }

    // Hands over requests whose worker does not begin to answer, which Dynamo does not limit.
    void end_silence() noexcept {
        while (!unanswered_.empty() && unanswered_.begin()->first <= Clock::now()) {
            const std::shared_ptr<Exchange> exchange =
                unanswered_.begin()->second->connection->exchange;
            guarded(*exchange, [&] {
                close(*exchange->connection);
                hand_over(*exchange);
            });
        }
    }

    void follow_orders() noexcept {
        std::uint64_t count = 0;
        [[maybe_unused]] const auto read = ::read(shared().wake_fd, &count, sizeof count);
        std::vector<int> ports;
        std::shared_ptr<Exchange> next;
        {
            const std::lock_guard lock(shared().mutex);
            next = std::exchange(shared().first_order, nullptr);
            shared().last_order = nullptr;
            ports.swap(shared().closed_ports);
            shared().is_awake = false;
        }
        for (const int port : ports) {
            close_spare(port);
        }
        while (next != nullptr) {
            const std::shared_ptr<Exchange> exchange = next;
            bool starts = false;
            bool cancels = false;
            bool resumes = false;
            {
                const std::lock_guard lock(shared().mutex);
                next = std::move(exchange->next_order);
                exchange->is_ordered = false;
                starts = !std::exchange(exchange->is_started, true);
                cancels = exchange->wants_cancel;
                resumes = std::exchange(exchange->wants_resume, false);
            }
            guarded(*exchange, [&] {
                if (cancels) {
                    cancel(*exchange);
                } else if (starts) {
                    start(exchange);
                } else if (resumes && exchange->connection != nullptr) {
                    resume(*exchange->connection);
                }
            });
        }
    }

    void cancel(Exchange &exchange) {
        if (exchange.connection != nullptr) {
            close(*exchange.connection);  // which cancels the request at the worker
        }
        if (release(exchange)) {
            dynamo_stream_finish(exchange.stream, nullptr, nullptr);
        }
    }

    // Runs a step of a request. Without memory for it, the request fails.
    template <class Function>
    void guarded(Exchange &exchange, Function function) noexcept {
        try {
            function();
            return;
        } catch (const std::exception &) {
        }
        if (exchange.connection != nullptr) {
            close(*exchange.connection);
        }
        release(exchange);
        dynamo_stream_fail(exchange.stream, DYNAMO_ERROR_OUT_OF_MEMORY, "", nullptr);
    }

    // ------------------------------------------------------------------------------- connections

    void start(const std::shared_ptr<Exchange> &exchange) {
        ConnectionPtr connection = idle_connection(exchange->port);
        if (connection == nullptr && (connection = connect(exchange->port)) == nullptr) {
            hand_over(*exchange);
            return;
        }
        connection->exchange = exchange;
        connection->sent = connection->received = 0;
        connection->is_sent = false;
        connection->response.reset();
        exchange->connection = std::move(connection);
        if (exchange->silence_ms > 0 && !exchange->unanswered) {
            exchange->unanswered = unanswered_.emplace(
                Clock::now() + std::chrono::milliseconds(exchange->silence_ms), exchange.get());
        }
        write(*exchange->connection);
    }

    ConnectionPtr idle_connection(int port) noexcept {
        const auto found =
            std::find_if(spare_.rbegin(), spare_.rend(), [port](const ConnectionPtr &each) {
                return each->port == port && each->response.is_complete();
            });
        if (found == spare_.rend()) {
            return nullptr;
        }
        found->swap(spare_.back());
        ConnectionPtr connection = std::move(spare_.back());
        spare_.pop_back();
        connection->is_reused = true;
        return connection;
    }

    // Returns nullptr if there is no connection to the port, or no descriptor for it.
    ConnectionPtr connect(int port) {
        auto connection = std::make_unique<Connection>(
            ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        connection->port = port;
        const int fd = connection->socket.fd();
        if (fd < 0) {
            return nullptr;
        }
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!bind_source(fd)) {
            return nullptr;
        }
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 &&
            errno != EINPROGRESS) {
            return nullptr;
        }
        epoll_event event{};
        event.data.ptr = connection.get();
        connection->watched = event.events = EPOLLIN;
        if (::epoll_ctl(shared().epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            return nullptr;
        }
        return connection;
    }

    // Gives a socket the source port, with another address of the loopback interface each time: a pair of ends has one
    // connection only.
    bool bind_source(int fd) noexcept {
        const int on = 1;
        ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(shared().source_port);
        for (int i = 0; i < 100; ++i) {
            last_source_ = last_source_ % 0xFFFFFD + 1;  // 127.0.0.1 to 127.255.255.253
            address.sin_addr.s_addr = htonl(std::uint32_t{127} << 24 | last_source_);
            if (::bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0) {
                return true;
            }
        }
        return false;
    }

    static void watch(Connection &connection, std::uint32_t events) noexcept {
        if (connection.watched != events) {
            epoll_event event{};
            event.data.ptr = &connection;
            connection.watched = event.events = events;
            ::epoll_ctl(shared().epoll_fd, EPOLL_CTL_MOD, connection.socket.fd(), &event);
        }
    }

    // No more events of a connection, not even that it has ended.
    static void ignore(const Connection &connection) noexcept {
        ::epoll_ctl(shared().epoll_fd, EPOLL_CTL_DEL, connection.socket.fd(), nullptr);
    }

    // Closes a connection. Its memory is kept until the end of this round of events, which may refer to it.
    void close(Connection &connection) noexcept {
        ignore(connection);
        ::shutdown(connection.socket.fd(), SHUT_RDWR);
        ConnectionPtr taken = take(connection);
        taken->exchange.reset();
        taken->is_closed = true;
        taken->next_closed = std::move(closed_);
        closed_ = std::move(taken);
    }

    void close_spare(int port) noexcept {
        for (std::size_t i = spare_.size(); i-- > 0;) {
            if (spare_[i]->port == port) {
                close(*spare_[i]);
            }
        }
    }

    // Takes a connection out of the place where it is kept.
    ConnectionPtr take(Connection &connection) noexcept {
        if (connection.exchange != nullptr) {
            return std::move(connection.exchange->connection);
        }
        const auto found =
            std::find_if(spare_.begin(), spare_.end(),
                         [&](const ConnectionPtr &each) { return each.get() == &connection; });
        found->swap(spare_.back());
        ConnectionPtr taken = std::move(spare_.back());
        spare_.pop_back();
        return taken;
    }

    // ------------------------------------------------------------------------------- events

    void on_event(Connection &connection, std::uint32_t events) noexcept {
        if (connection.is_closed) {
            return;
        }
        if (connection.exchange == nullptr) {
            read_rest(connection);
            return;
        }
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        guarded(*exchange, [&] {
            if ((events & EPOLLOUT) != 0) {
                write(connection);
            }
            if (connection.exchange == exchange && (events & ~EPOLLOUT) != 0) {
                read(connection);
            }
        });
    }

    // Reads the end of a response whose answer is complete. Anything else closes the connection.
    void read_rest(Connection &connection) noexcept {
        const ssize_t count = ::recv(connection.socket.fd(), bytes_.data(), bytes_.size(), 0);
        try {
            if (count > 0) {
                std::string body;
                connection.response.feed({bytes_.data(), static_cast<std::size_t>(count)}, body);
                return;
            }
        } catch (const std::exception &) {
        }
        if (count >= 0 || (errno != EAGAIN && errno != EINTR)) {
            close(connection);
        }
    }

    void write(Connection &connection) {
        const std::string &request = connection.exchange->request;
        while (connection.sent < request.size()) {
            const ssize_t count = ::send(connection.socket.fd(), request.data() + connection.sent,
                                         request.size() - connection.sent, MSG_NOSIGNAL);
            if (count < 0) {
                if (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) {
                    watch(connection, EPOLLIN | EPOLLOUT);
                    return;
                }
                lose(connection);
                return;
            }
            connection.sent += static_cast<std::size_t>(count);
        }
        connection.is_sent = true;
        watch(connection, EPOLLIN);
    }

    void read(Connection &connection) {
        for (int i = 0; i < max_reads; ++i) {
            const ssize_t count = ::recv(connection.socket.fd(), bytes_.data(), bytes_.size(), 0);
            if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
                return;
            }
            if (count <= 0) {
                lose(connection);
                return;
            }
            connection.received += static_cast<std::size_t>(count);
            try {
                connection.response.feed({bytes_.data(), static_cast<std::size_t>(count)},
                                         connection.events.buffer());
            } catch (const ProtocolError &error) {
                connection.problem = error.what();
            }
            if (!answer(connection) || static_cast<std::size_t>(count) < bytes_.size()) {
                return;
            }
        }
    }

    // Handles what has arrived of a response, and what was wrong with it. Returns false if the connection is not to be
    // read now.
    bool answer(Connection &connection) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        try {
            if (connection.response.status() == 200) {
                exchange->is_embedding ? read_embeddings(connection) : read_events(connection);
            } else if (connection.response.status() != 0) {
                read_error(connection);
            }
        } catch (const ProtocolError &error) {
            connection.problem = error.what();
        }
        if (connection.exchange != exchange) {
            return false;  // it has ended
        }
        if (exchange->is_waiting) {
            if (connection.problem) {
                ignore(connection);
            }
            return false;
        }
        if (connection.problem) {
            fail(connection, bad_answer, "Dynamo's frontend sent " + *connection.problem);
            return false;
        }
        return true;
    }

    void read_error(Connection &connection) {
        std::string &text = connection.exchange->error_text;
        std::string &body = connection.events.buffer();
        text.append(body, 0, max_error - text.size());
        body.clear();
        if (connection.response.is_complete()) {
            fail(connection, connection.response.status(), text);
        }
    }

    void read_embeddings(Connection &connection) {
        const std::string &body = connection.events.buffer();
        if (body.size() > EventStream::max_event) {
            throw ProtocolError("embeddings that are too long");
        }
        if (!connection.response.is_complete()) {
            return;
        }
        nlohmann::json given = nlohmann::json::parse(body, nullptr, false);
        if (!given.is_object() || !given["data"].is_array()) {
            throw ProtocolError("embeddings that are not valid");
        }
        Exchange &exchange = *connection.exchange;
        exchange.event = {};
        exchange.event.delta_json = nlohmann::json{{"data", std::move(given["data"])}}.dump();
        if (const auto usage = given.find("usage"); usage != given.end() && usage->is_object()) {
            exchange.event.usage.emplace().prompt_tokens =
                usage->value("prompt_tokens", std::uint64_t{0});
        }
        exchange.finish_reason = "stop";
        if (push(connection)) {
            finish(connection);
        }
    }

    void read_events(Connection &connection) {
        Exchange &exchange = *connection.exchange;
        EventStream::Event event;
        while (!exchange.is_waiting && connection.events.next(event)) {
            if (event.data == last_event) {
                finish(connection);
                return;
            }
            const bool is_error = event.name == "error";
            if (!is_error) {
                exchange.event.read(event.data);
            }
            if (is_error || exchange.event.is_error) {
                fail(connection, status_of(event.data), std::string(event.data));
                return;
            }
            if (!push(connection)) {
                return;
            }
        }
        connection.events.compact();
        if (!exchange.is_waiting && connection.response.is_complete()) {
            fail(connection, bad_answer,
                 "Dynamo's frontend ended an answer before it was complete");
        }
    }

    // Pushes the newest event. Returns false if the request has ended.
    bool push(Connection &connection) {
        Exchange &exchange = *connection.exchange;
        const AnswerEvent &event = exchange.event;
        if (!event.finish_reason.empty()) {
            exchange.finish_reason = event.finish_reason;
        }
        if (event.usage) {
            exchange.has_usage = true;
            exchange.usage = {sizeof exchange.usage, event.usage->prompt_tokens,
                              event.usage->completion_tokens, event.usage->cached_tokens};
        }
        if (event.is_empty()) {
            return true;
        }
        dynamo_chunk_t chunk{};
        chunk.struct_size = sizeof chunk;
        chunk.text = event.text.data();
        chunk.text_length = event.text.size();
        chunk.token_ids = event.token_ids.data();
        chunk.token_count = event.token_ids.size();
        chunk.delta_json = event.delta_json.empty() ? nullptr : event.delta_json.c_str();
        const std::int32_t status = dynamo_stream_push(exchange.stream, &chunk);
        exchange.is_waiting = status == DYNAMO_PENDING;
        if (exchange.is_waiting) {
            has_answered(exchange);
            watch(connection, 0);
            return true;
        }
        if (status == DYNAMO_OK) {
            if (!std::exchange(exchange.has_pushed, true)) {
                has_answered(exchange);
                std::string().swap(exchange.body_json);
                std::string().swap(exchange.request);
            }
            return true;
        }
        const std::string why = dynamo_last_error();
        const std::shared_ptr<Exchange> kept = connection.exchange;
        close(connection);
        release(exchange);
        if (status == DYNAMO_ERROR_CANCELLED) {
            dynamo_stream_finish(exchange.stream, nullptr, nullptr);
        } else if (status != DYNAMO_ERROR_INVALID_HANDLE) {
            dynamo_stream_fail(exchange.stream, status, why.c_str(), nullptr);
        }
        return false;
    }

    void resume(Connection &connection) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        if (!std::exchange(exchange->is_waiting, false) || !push(connection) ||
            exchange->is_waiting || !answer(connection)) {
            return;
        }
        if (connection.is_lost) {
            lose(connection);
        } else {
            watch(connection, EPOLLIN);
        }
    }

    // ------------------------------------------------------------------------------- ends

    void finish(Connection &connection) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        if (exchange->finish_reason.empty()) {
            fail(connection, 500, "Dynamo's frontend ended an answer without a finish_reason");
            return;
        }
        if (connection.response.keeps_alive() && !connection.is_lost && !connection.problem &&
            connection.is_sent && spare_.size() < shared().max_spare) {
            connection.events = EventStream();
            watch(connection, EPOLLIN);
            spare_.push_back(take(connection));  // has the capacity
            connection.exchange.reset();
        } else {
            close(connection);
        }
        release(*exchange, true);
        dynamo_stream_finish(exchange->stream, exchange->finish_reason.c_str(),
                             exchange->has_usage ? &exchange->usage : nullptr);
    }

    // The connection has ended.
    void lose(Connection &connection) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        if (exchange->is_waiting) {  // what came before is to be pushed first
            connection.is_lost = true;
            ignore(connection);
            return;
        }
        if (connection.response.status() != 0) {
            fail(connection, 503,
                 "Dynamo's frontend closed the connection before the answer was complete");
            return;
        }
        const bool was_idle_too_long = connection.is_reused && connection.received == 0;
        close(connection);
        if (was_idle_too_long) {
            close_spare(exchange->port);  // the others have probably ended, too
            start(exchange);
        } else {
            hand_over(*exchange);
        }
    }

    void fail(Connection &connection, int status, std::string text) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        close(connection);
        // Python waits for the model, sends again, or gets the worker's own message, which the server hides.
        if (!exchange->has_pushed && !is_final(status) && status != bad_answer &&
            !exchange->is_only_there) {
            hand_over(*exchange);
            return;
        }
        release(*exchange);
        callbacks.fail(exchange->instance, exchange->stream, status, std::move(text));
    }

    void hand_over(Exchange &exchange) {
        if (exchange.is_only_there) {
            release(exchange);
            callbacks.fail(exchange.instance, exchange.stream, 503,
                           "Dynamo's frontend in this process did not answer");
            return;
        }
        has_answered(exchange);
        bool is_taken = false;
        {
            // Under the lock, so that a cancel comes to Python afterwards.
            const std::lock_guard lock(shared().mutex);
            if (shared().exchanges.erase(exchange.stream) == 0) {
                return;  // close() has ended it
            }
            ++shared().counts.handed_over;
            is_taken = callbacks.hand_over(exchange.instance, exchange.stream, exchange.request_id,
                                           exchange.body_json);
        }
        if (!is_taken) {
            callbacks.fail(exchange.instance, exchange.stream, 503, {});
        }
    }

    // No longer limits the time until the first token.
    void has_answered(Exchange &exchange) noexcept {
        if (exchange.unanswered) {
            unanswered_.erase(*exchange.unanswered);
            exchange.unanswered.reset();
        }
    }

    // From now on the stream is unknown to other threads. Returns whether it was known.
    bool release(Exchange &exchange, bool is_answered = false) noexcept {
        has_answered(exchange);
        const std::lock_guard lock(shared().mutex);
        shared().counts.answered += is_answered ? 1 : 0;
        return shared().exchanges.erase(exchange.stream) > 0;
    }

    std::array<char, read_size> bytes_;
    std::vector<ConnectionPtr> spare_;  // without a request
    std::uint32_t last_source_ = 0;     // the last three bytes of the newest connection's address
    ConnectionPtr closed_;              // a list
    Unanswered unanswered_;
};

// Binds a port at all addresses, and returns it. Other users of the machine cannot bind it anywhere, this one only with
// the same option. Requires the mutex. Throws std::exception.
std::uint16_t hold_source_port() {
    if (shared().source_port == 0) {
        Socket holder(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int on = 1;
        sockaddr_in address{};
        address.sin_family = AF_INET;
        socklen_t size = sizeof address;
        if (holder.fd() < 0 ||
            ::setsockopt(holder.fd(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
            ::bind(holder.fd(), reinterpret_cast<const sockaddr *>(&address), size) != 0 ||
            ::getsockname(holder.fd(), reinterpret_cast<sockaddr *>(&address), &size) != 0) {
            throw std::runtime_error("no port for the client of Dynamo's frontend");
        }
        shared().source_port = ntohs(address.sin_port);
        holder.release();
    }
    return shared().source_port;
}

// Requires the mutex. Throws std::exception.
void run_once() {
    Shared &state = shared();
    if (state.epoll_fd >= 0) {
        return;
    }
    Socket epoll(::epoll_create1(EPOLL_CLOEXEC));
    Socket notifier(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll.fd() < 0 || notifier.fd() < 0 ||
        ::epoll_ctl(epoll.fd(), EPOLL_CTL_ADD, notifier.fd(), &event) != 0) {
        throw std::runtime_error("no file descriptors for the client of Dynamo's frontend");
    }
    hold_source_port();
    const std::size_t all = most_connections();
    state.max_spare = std::min(most_spare, all / 4);
    state.max_exchanges = all - state.max_spare;
    auto reactor = std::make_shared<Reactor>();
    state.epoll_fd = epoll.fd();  // the thread waits for the mutex before it uses others
    state.wake_fd = notifier.fd();
    try {
        start_thread([reactor] { reactor->run(); });
    } catch (...) {
        state.epoll_fd = state.wake_fd = -1;
        throw;
    }
    epoll.release();
    notifier.release();
}

}  // namespace

void set_callbacks(const Callbacks &given) noexcept {
    callbacks = given;
}

void set_target(std::uint64_t instance, std::string_view target_json) {
    const nlohmann::json given = nlohmann::json::parse(target_json);
    auto target = std::make_shared<Target>();
    target->port = given.at("port").get<int>();
    target->silence_ms = given.at("silence_ms").get<std::int64_t>();
    target->default_model = given.at("default_model").get<std::string>();
    for (const auto &[name, model] : given.at("models").items()) {
        target->models[name] = {model.at("name").get<std::string>(),
                                model.at("context_length").get<std::uint64_t>(),
                                model.at("vocab_size").get<std::uint64_t>(),
                                model.at("only_for").get<std::set<std::string, std::less<>>>()};
    }
    const std::lock_guard lock(shared().mutex);
    run_once();
    std::shared_ptr<const Target> &known = shared().targets[instance];
    if (known != nullptr && known->port != target->port) {
        shared().closed_ports.push_back(known->port);
        wake();
    }
    known = std::move(target);
}

std::uint16_t source_port() {
    const std::lock_guard lock(shared().mutex);
    return hold_source_port();
}

void remove_target(std::uint64_t instance) {
    const std::lock_guard lock(shared().mutex);
    const auto found = shared().targets.find(instance);
    if (found != shared().targets.end()) {
        shared().closed_ports.push_back(found->second->port);
        wake();
        shared().targets.erase(found);
    }
}

bool send(std::uint64_t instance, dynamo_stream_t *stream, std::string_view request_id,
          std::string_view body_json) noexcept {
    Shared &state = shared();
    try {
        std::shared_ptr<const Target> target;
        {
            const std::lock_guard lock(state.mutex);
            const auto found = state.targets.find(instance);
            if (found == state.targets.end() || state.is_closed ||
                state.exchanges.size() >= state.max_exchanges) {
                return false;
            }
            target = found->second;
        }
        std::optional<HttpRequest> request =
            http_request(*target, fields_of(stream, request_id), body_json);
        if (!request) {
            return false;
        }
        auto exchange = std::make_shared<Exchange>();
        exchange->instance = instance;
        exchange->stream = stream;
        exchange->request_id = request_id;
        exchange->body_json = body_json;
        exchange->request = std::move(request->bytes);
        exchange->is_embedding = request->is_embedding;
        exchange->is_only_there = request->is_only_there;
        exchange->port = target->port;
        exchange->silence_ms = target->silence_ms;
        const std::lock_guard lock(state.mutex);
        if (state.is_closed) {
            return false;
        }
        state.exchanges.emplace(stream, exchange);
        order(exchange);
        return true;
    } catch (const std::exception &) {  // no memory: Python's way reports it
        return false;
    }
}

namespace {

// Sets what a thread wants of a request. Returns false if the stream is not the client's.
bool want(dynamo_stream_t *stream, bool Exchange::*what) noexcept {
    const std::lock_guard lock(shared().mutex);
    const auto found = shared().exchanges.find(stream);
    if (found == shared().exchanges.end()) {
        return false;
    }
    *found->second.*what = true;
    order(found->second);
    return true;
}

}  // namespace

bool cancel(dynamo_stream_t *stream) noexcept {
    return want(stream, &Exchange::wants_cancel);
}

bool resume(dynamo_stream_t *stream) noexcept {
    return want(stream, &Exchange::wants_resume);
}

Counts counts() {
    const std::lock_guard lock(shared().mutex);
    return shared().counts;
}

void close(const char *message, bool is_exiting) {
    std::unordered_map<dynamo_stream_t *, std::shared_ptr<Exchange>> left;
    {
        const std::lock_guard lock(shared().mutex);
        shared().is_closed = true;
        left.swap(shared().exchanges);
    }
    for (const auto &[stream, exchange] : left) {
        dynamo_stream_fail(stream, DYNAMO_ERROR_CLOSED, message,
                           is_exiting ? "{\"exiting\": true}" : nullptr);
        const std::lock_guard lock(shared().mutex);
        exchange->wants_cancel = true;
        order(exchange);
    }
}

}  // namespace dynamo::frontend::client

#else  // epoll is Linux's: elsewhere all requests are for Python

namespace dynamo::frontend::client {

void set_callbacks(const Callbacks &) noexcept {}
void set_target(std::uint64_t, std::string_view) {}
std::uint16_t source_port() {
    return 0;
}
void remove_target(std::uint64_t) {}
bool send(std::uint64_t, dynamo_stream_t *, std::string_view, std::string_view) noexcept {
    return false;
}
bool cancel(dynamo_stream_t *) noexcept {
    return false;
}
bool resume(dynamo_stream_t *) noexcept {
    return false;
}
Counts counts() {
    return {};
}
void close(const char *, bool) {}

}  // namespace dynamo::frontend::client

#endif
