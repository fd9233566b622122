// SPDX-License-Identifier: Apache-2.0
#include "frontend/client.hpp"

#ifdef __linux__

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
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
// Most unused connections that are kept for each port.
constexpr std::size_t max_spare = 256;
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

  private:
    int fd_ = -1;
};

// One request, from send() until its stream is released. Used by the client's thread, except where noted.
struct Exchange {
    std::uint64_t instance = 0;
    dynamo_stream_t *stream = nullptr;
    std::string request_id;
    std::string body_json;  // for Python, until a token has come
    std::string request;    // HTTP, likewise
    int port = 0;
    std::int64_t silence_ms = 0;
    std::string error_text;   // of a response that is not a stream
    AnswerEvent event;        // the newest one
    bool is_waiting = false;  // its stream is full, and `event` is to be pushed again
    bool has_pushed = false;
    std::string finish_reason;
    dynamo_usage_t usage{};
    bool has_usage = false;
};

struct Connection {
    explicit Connection(int fd) : socket(fd) {}
    Socket socket;
    int port = 0;
    std::uint32_t watched = 0;  // events of epoll
    std::size_t sent = 0;       // bytes of the request
    std::size_t received = 0;   // bytes of the response
    bool is_reused = false;
    bool is_closed = false;
    HttpResponse response;  // complete: the connection is idle
    EventStream events;
    std::shared_ptr<Exchange>
        exchange;  // nullptr: idle, or only the end of the response is still to come
};

struct Order {
    enum class Kind { start, cancel, resume, close_spare } kind;
    std::shared_ptr<Exchange> exchange;
    int port = 0;
};

struct TargetOf {
    std::shared_ptr<const Target> target;  // nullptr: no more requests
    Counts counts;
};

struct Shared {
    std::mutex mutex;  // guards what follows
    std::map<std::uint64_t, TargetOf> targets;
    std::unordered_map<dynamo_stream_t *, std::shared_ptr<Exchange>> exchanges;
    std::vector<Order> orders;
    bool is_awake = false;
    bool is_running = false;
    bool is_closed = false;
    int wake_fd = -1;
    int epoll_fd = -1;
    std::size_t max_exchanges = 0;
};

// Leaked, because threads may use it while the process exits.
Shared &shared() {
    static Shared *const instance = new Shared;
    return *instance;
}

Callbacks callbacks{};

std::size_t most_exchanges() {
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
void order(Order::Kind kind, std::shared_ptr<Exchange> exchange, int port = 0) {
    Shared &state = shared();
    state.orders.push_back({kind, std::move(exchange), port});
    if (!std::exchange(state.is_awake, true)) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(state.wake_fd, &one, sizeof one);
    }
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
    [[noreturn]] void run() {
        ::pthread_setname_np(::pthread_self(), "dynamo-frontend");
        std::array<epoll_event, 256> ready;
        for (;;) {
            const int count = ::epoll_wait(shared().epoll_fd, ready.data(),
                                           static_cast<int>(ready.size()), wait_ms());
            for (int i = 0; i < count; ++i) {
                if (ready[static_cast<std::size_t>(i)].data.ptr == nullptr) {
                    follow_orders();
                } else {
                    on_event(
                        *static_cast<Connection *>(ready[static_cast<std::size_t>(i)].data.ptr),
                        ready[static_cast<std::size_t>(i)].events);
                }
            }
            end_silence();
            closed_.clear();  // events of this round may refer to them
        }
    }

  private:
    using ConnectionPtr = std::unique_ptr<Connection>;

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
    void end_silence() {
        while (!unanswered_.empty() && unanswered_.begin()->first <= Clock::now()) {
            const std::shared_ptr<Exchange> exchange = unanswered_.begin()->second.lock();
            unanswered_.erase(unanswered_.begin());
            const auto found = exchange == nullptr ? running_.end() : running_.find(exchange.get());
            if (found != running_.end() && !exchange->has_pushed && !exchange->is_waiting) {
                guarded(*exchange, [&] {
                    close(*found->second);
                    hand_over(*exchange);
                });
            }
        }
    }

    void follow_orders() {
        std::uint64_t count = 0;
        [[maybe_unused]] const auto read = ::read(shared().wake_fd, &count, sizeof count);
        std::vector<Order> orders;
        {
            const std::lock_guard lock(shared().mutex);
            orders.swap(shared().orders);
            shared().is_awake = false;
        }
        for (const Order &each : orders) {
            if (each.kind == Order::Kind::close_spare) {
                close_spare(each.port);
            } else {
                guarded(*each.exchange, [&] { follow(each); });
            }
        }
    }

    void follow(const Order &order) {
        if (order.kind == Order::Kind::start) {
            start(order.exchange);
            return;
        }
        const auto found = running_.find(order.exchange.get());
        if (found == running_.end()) {
            return;  // it has ended meanwhile
        }
        if (order.kind == Order::Kind::resume) {
            resume(*found->second);
            return;
        }
        close(*found->second);  // which cancels the request at the worker
        release(*order.exchange);
        dynamo_stream_finish(order.exchange->stream, nullptr, nullptr);
    }

    // Runs a step of a request. Without memory for it, the request fails.
    template <class Function>
    void guarded(Exchange &exchange, Function function) noexcept {
        try {
            function();
        } catch (const std::exception &) {
            if (const auto found = running_.find(&exchange); found != running_.end()) {
                ::shutdown(found->second->socket.fd(), SHUT_RDWR);
                running_.erase(found);  // closing the socket removes it from epoll
            }
            release(exchange);
            dynamo_stream_fail(exchange.stream, DYNAMO_ERROR_OUT_OF_MEMORY, "", nullptr);
        }
    }

    // ------------------------------------------------------------------------------- connections

    void start(const std::shared_ptr<Exchange> &exchange) {
        ConnectionPtr connection = idle_connection(exchange->port);
        if (connection == nullptr && (connection = connect(exchange->port)) == nullptr) {
            hand_over(*exchange);
            return;
        }
        if (exchange->silence_ms > 0) {
            unanswered_.emplace(Clock::now() + std::chrono::milliseconds(exchange->silence_ms),
                                exchange);
        }
        connection->exchange = exchange;
        connection->sent = connection->received = 0;
        connection->response.reset();
        Connection &started = *connection;
        running_[exchange.get()] = std::move(connection);
        write(started);
    }

    ConnectionPtr idle_connection(int port) {
        auto &spare = spare_[port];
        const auto found =
            std::find_if(spare.rbegin(), spare.rend(),
                         [](const ConnectionPtr &each) { return each->response.is_complete(); });
        if (found == spare.rend()) {
            return nullptr;
        }
        found->swap(spare.back());
        ConnectionPtr connection = std::move(spare.back());
        spare.pop_back();
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

    void watch(Connection &connection, std::uint32_t events) {
        if (connection.watched != events) {
            epoll_event event{};
            event.data.ptr = &connection;
            connection.watched = event.events = events;
            ::epoll_ctl(shared().epoll_fd, EPOLL_CTL_MOD, connection.socket.fd(), &event);
        }
    }

    // Closes a connection. Its memory is kept until the end of this round of events, which may refer to it.
    void close(Connection &connection) {
        ::epoll_ctl(shared().epoll_fd, EPOLL_CTL_DEL, connection.socket.fd(), nullptr);
        ::shutdown(connection.socket.fd(), SHUT_RDWR);
        closed_.push_back(take(connection));
        connection.exchange.reset();
        connection.is_closed = true;
    }

    void close_spare(int port) {
        for (auto &spare = spare_[port]; !spare.empty();) {
            close(*spare.back());
        }
    }

    // Takes a connection out of the place where it is kept.
    ConnectionPtr take(Connection &connection) {
        ConnectionPtr taken;
        if (connection.exchange != nullptr) {
            const auto found = running_.find(connection.exchange.get());
            taken = std::move(found->second);
            running_.erase(found);
            return taken;
        }
        auto &spare = spare_[connection.port];
        const auto found = std::find_if(spare.begin(), spare.end(), [&](const ConnectionPtr &each) {
            return each.get() == &connection;
        });
        taken = std::move(*found);
        spare.erase(found);
        return taken;
    }

    // ------------------------------------------------------------------------------- events

    void on_event(Connection &connection, std::uint32_t events) {
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
    void read_rest(Connection &connection) {
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
            const std::shared_ptr<Exchange> exchange = connection.exchange;
            std::string problem;
            try {
                connection.response.feed({bytes_.data(), static_cast<std::size_t>(count)},
                                         connection.events.buffer());
            } catch (const ProtocolError &error) {
                problem = error.what();
            }
            try {  // first what came before the problem
                if (!answer(connection) && (problem.empty() || connection.exchange != exchange)) {
                    return;
                }
            } catch (const ProtocolError &error) {
                problem = error.what();
            }
            if (!problem.empty()) {
                fail(connection, bad_answer, "Dynamo's frontend sent " + problem);
                return;
            }
            if (static_cast<std::size_t>(count) < bytes_.size()) {
                return;
            }
        }
    }

    // Handles what has arrived of a response. Returns false if the connection is not to be read now.
    bool answer(Connection &connection) {
        Exchange &exchange = *connection.exchange;
        if (connection.response.status() == 0) {
            return true;
        }
        if (connection.response.status() != 200) {
            std::string &body = connection.events.buffer();
            exchange.error_text.append(body, 0, max_error - exchange.error_text.size());
            body.clear();
            if (connection.response.is_complete()) {
                fail(connection, connection.response.status(), exchange.error_text);
                return false;
            }
            return true;
        }
        EventStream::Event event;
        while (!exchange.is_waiting && connection.events.next(event)) {
            if (event.data == last_event) {
                finish(connection);
                return false;
            }
            const bool is_error = event.name == "error";
            if (!is_error) {
                exchange.event.read(event.data);
            }
            if (is_error || exchange.event.is_error) {
                fail(connection, status_of(event.data), std::string(event.data));
                return false;
            }
            if (!push(connection)) {
                return false;
            }
        }
        connection.events.compact();
        if (!exchange.is_waiting && connection.response.is_complete()) {
            fail(connection, bad_answer,
                 "Dynamo's frontend ended an answer before it was complete");
            return false;
        }
        return !exchange.is_waiting;
    }

    // Pushes the newest event. Returns false if the connection was closed.
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
            watch(connection, 0);
            return true;
        }
        if (status == DYNAMO_OK) {
            if (!std::exchange(exchange.has_pushed, true)) {
                std::string().swap(exchange.body_json);
                std::string().swap(exchange.request);
            }
            return true;
        }
        const std::string why = dynamo_last_error();
        release(exchange);
        if (status == DYNAMO_ERROR_CANCELLED) {
            dynamo_stream_finish(exchange.stream, nullptr, nullptr);
        } else if (status != DYNAMO_ERROR_INVALID_HANDLE) {
            dynamo_stream_fail(exchange.stream, status, why.c_str(), nullptr);
        }
        close(connection);
        return false;
    }

    void resume(Connection &connection) {
        Exchange &exchange = *connection.exchange;
        if (!std::exchange(exchange.is_waiting, false)) {
            return;
        }
        try {
            if (!push(connection) || exchange.is_waiting || !answer(connection)) {
                return;
            }
        } catch (const ProtocolError &error) {
            fail(connection, bad_answer, std::string("Dynamo's frontend sent ") + error.what());
            return;
        }
        watch(connection, EPOLLIN);
    }

    // ------------------------------------------------------------------------------- ends

    void finish(Connection &connection) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        if (exchange->finish_reason.empty()) {
            fail(connection, 500, "Dynamo's frontend ended an answer without a finish_reason");
            return;
        }
        auto &spare = spare_[connection.port];
        if (connection.response.keeps_alive() && spare.size() < max_spare) {
            spare.push_back(take(connection));
            connection.exchange.reset();
            connection.events = EventStream();
        } else {
            close(connection);
        }
        release(*exchange);
        dynamo_stream_finish(exchange->stream, exchange->finish_reason.c_str(),
                             exchange->has_usage ? &exchange->usage : nullptr);
    }

    // The connection has ended.
    void lose(Connection &connection) {
        const std::shared_ptr<Exchange> exchange = connection.exchange;
        const bool was_idle_too_long = connection.is_reused && connection.received == 0;
        const bool has_answer = connection.response.status() != 0;
        if (has_answer) {
            fail(connection, 503,
                 "Dynamo's frontend closed the connection before the answer was complete");
            return;
        }
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
        if (!exchange->has_pushed && !is_final(status) && status != bad_answer) {
            hand_over(*exchange);
            return;
        }
        release(*exchange);
        callbacks.fail(exchange->instance, exchange->stream, status, std::move(text));
    }

    void hand_over(Exchange &exchange) {
        bool is_taken = false;
        {
            // Under the lock, so that a cancel comes to Python afterwards.
            const std::lock_guard lock(shared().mutex);
            if (shared().exchanges.erase(exchange.stream) == 0) {
                return;  // close() has ended it
            }
            ++shared().targets[exchange.instance].counts.handed_over;
            is_taken = callbacks.hand_over(exchange.instance, exchange.stream, exchange.request_id,
                                           exchange.body_json);
        }
        if (!is_taken) {
            callbacks.fail(exchange.instance, exchange.stream, 503, {});
        }
    }

    // From now on the stream is unknown to cancel() and resume().
    void release(const Exchange &exchange) {
        const std::lock_guard lock(shared().mutex);
        shared().exchanges.erase(exchange.stream);
    }

    std::array<char, read_size> bytes_;
    std::unordered_map<const Exchange *, ConnectionPtr> running_;
    std::map<int, std::vector<ConnectionPtr>> spare_;  // without a request, by port
    std::vector<ConnectionPtr> closed_;
    // Requests with a limit until their first token. Those that have ended stay until their time is over.
    std::multimap<Clock::time_point, std::weak_ptr<Exchange>> unanswered_;
};

// Requires the mutex. Throws std::exception.
void run_once() {
    Shared &state = shared();
    if (state.is_running) {
        return;
    }
    if (state.epoll_fd < 0) {
        state.epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
        state.wake_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        epoll_event event{};
        event.events = EPOLLIN;
        if (state.epoll_fd < 0 || state.wake_fd < 0 ||
            ::epoll_ctl(state.epoll_fd, EPOLL_CTL_ADD, state.wake_fd, &event) != 0) {
            throw std::runtime_error("no file descriptors for the client of Dynamo's frontend");
        }
        state.max_exchanges = most_exchanges();
    }
    auto reactor = std::make_shared<Reactor>();
    start_thread([reactor] { reactor->run(); });
    state.is_running = true;
}

}  // namespace

void set_callbacks(const Callbacks &given) noexcept {
    callbacks = given;
}

void set_target(std::uint64_t instance, std::string_view target_json) {
    const nlohmann::json given = nlohmann::json::parse(target_json);
    auto target = std::make_shared<Target>();
    target->port = given.at("port").get<int>();
    target->chat_path = given.at("chat_path").get<std::string>();
    target->completion_path = given.at("completion_path").get<std::string>();
    target->silence_ms = given.at("silence_ms").get<std::int64_t>();
    target->default_model = given.at("default_model").get<std::string>();
    for (const auto &[name, model] : given.at("models").items()) {
        target->models[name] = model.get<std::string>();
    }
    const std::lock_guard lock(shared().mutex);
    run_once();
    std::shared_ptr<const Target> &known = shared().targets[instance].target;
    if (known != nullptr && known->port != target->port) {
        order(Order::Kind::close_spare, nullptr, known->port);
    }
    known = std::move(target);
}

void remove_target(std::uint64_t instance) {
    const std::lock_guard lock(shared().mutex);
    const auto found = shared().targets.find(instance);
    if (found != shared().targets.end() && found->second.target != nullptr) {
        order(Order::Kind::close_spare, nullptr, found->second.target->port);
        found->second.target.reset();
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
            target = found->second.target;
        }
        std::optional<std::string> request;
        if (target == nullptr ||
            !(request = http_request(*target, fields_of(stream, request_id), body_json))) {
            return false;
        }
        auto exchange = std::make_shared<Exchange>();
        exchange->instance = instance;
        exchange->stream = stream;
        exchange->request_id = request_id;
        exchange->body_json = body_json;
        exchange->request = std::move(*request);
        exchange->port = target->port;
        exchange->silence_ms = target->silence_ms;
        const std::lock_guard lock(state.mutex);
        if (state.is_closed) {
            return false;
        }
        state.exchanges.emplace(stream, exchange);
        try {
            order(Order::Kind::start, std::move(exchange));
        } catch (const std::exception &) {
            state.exchanges.erase(stream);
            throw;
        }
        ++state.targets[instance].counts.sent;
        return true;
    } catch (const std::exception &) {  // no memory: Python's way reports it
        return false;
    }
}

namespace {

bool order_for(dynamo_stream_t *stream, Order::Kind kind) noexcept {
    const std::lock_guard lock(shared().mutex);
    const auto found = shared().exchanges.find(stream);
    if (found == shared().exchanges.end()) {
        return false;
    }
    try {
        order(kind, found->second);
    } catch (const std::exception &) {  // the next event of the request finds out
    }
    return true;
}

}  // namespace

bool cancel(dynamo_stream_t *stream) noexcept {
    return order_for(stream, Order::Kind::cancel);
}

bool resume(dynamo_stream_t *stream) noexcept {
    return order_for(stream, Order::Kind::resume);
}

Counts counts(std::uint64_t instance) {
    const std::lock_guard lock(shared().mutex);
    const auto found = shared().targets.find(instance);
    return found == shared().targets.end() ? Counts() : found->second.counts;
}

void close(const char *message, bool is_exiting) {
    Shared &state = shared();
    std::vector<std::shared_ptr<Exchange>> left;
    {
        const std::lock_guard lock(state.mutex);
        state.is_closed = true;
        for (const auto &[stream, exchange] : state.exchanges) {
            left.push_back(exchange);
        }
        state.exchanges.clear();
    }
    for (const std::shared_ptr<Exchange> &exchange : left) {
        dynamo_stream_fail(exchange->stream, DYNAMO_ERROR_CLOSED, message,
                           is_exiting ? "{\"exiting\": true}" : nullptr);
        const std::lock_guard lock(state.mutex);
        order(Order::Kind::cancel, exchange);
    }
}

}  // namespace dynamo::frontend::client

#else  // epoll is Linux's: elsewhere all requests are for Python

namespace dynamo::frontend::client {

void set_callbacks(const Callbacks &) noexcept {}
void set_target(std::uint64_t, std::string_view) {}
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
Counts counts(std::uint64_t) {
    return {};
}
void close(const char *, bool) {}

}  // namespace dynamo::frontend::client

#endif
