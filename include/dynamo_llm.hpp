// SPDX-License-Identifier: Apache-2.0
/**
 * @file dynamo_llm.hpp
 * @brief LLM inference from C++: dynamo_llm.h with ownership, ranges, coroutines and errors.
 *
 * The whole of it:
 *
 *     dynamo_llm::Runtime runtime;
 *     for (auto &response : runtime.send(dynamo_llm::Chat("What is a KV cache?"))) {
 *         std::cout << response.text() << std::flush;
 *     }
 *
 * Header-only, on dynamo_llm.h alone: copy it beside an installed C library, and link that. C++17;
 * with C++20 also coroutines (AsyncRequest), std::stop_token and ranges.
 *
 *  - Cost:     a Runtime, Request, Response or Tokenizer is one C handle, and its functions are calls of the
 *              C functions: nothing is allocated or copied on the way, unless a comment says so.
 *              Texts that C wants NUL-terminated are taken as std::string.
 *  - Errors:   an error is thrown as Error, with the whole story of the C interface. Where
 *              exceptions are off, or DYNAMO_LLM_NO_EXCEPTIONS is defined, functions that can fail
 *              return a Result instead (Returned<T> is the one or the other), and objects are made
 *              with create() functions, which exist in both modes. Such a Result must be looked at.
 *              Running out of memory in the C++ library itself is not caught.
 *  - Threads:  as in C, any thread may call any const function on an object that others use; as
 *              with every C++ object, no other may use it while it is assigned, moved from or
 *              destroyed. (What shall be destroyed while others wait: cancel() it first.)
 *  - Blocking: as in C: next(), recv() and iteration wait for the answer, creating a Runtime for
 *              the model, a Tokenizer's functions for what they return; the rest returns at once.
 *  - Times:    any std::chrono duration, rounded up to milliseconds. As in the standard library a
 *              negative one has passed already; forever is for ever.
 *  - Views:    std::string_view and TokenIds point into the object they came from.
 *
 * What has nothing to own is not wrapped: dynamo_version_string(), dynamo_abi_version(),
 * dynamo_config_schema() and the like are called as they are, and so are those for authors of engines.
 */
#ifndef DYNAMO_LLM_HPP
#define DYNAMO_LLM_HPP

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <iterator>
#include <locale>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "dynamo_llm.h"

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif

#if defined(__cpp_impl_coroutine) && defined(__cpp_lib_coroutine)
/** Defined where there is AsyncRequest. */
#define DYNAMO_LLM_HAS_COROUTINES 1
#include <coroutine>
#include <mutex>
#endif
#if defined(__cpp_lib_jthread)
/** Defined where there is Request::cancel_on(). */
#define DYNAMO_LLM_HAS_STOP_TOKEN 1
#include <stop_token>
#endif

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define DYNAMO_LLM_NO_EXCEPTIONS
#endif

namespace dynamo_llm {
// Files with and without exceptions may meet in one program: their types have other names.
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
inline namespace returning {
#else
inline namespace throwing {
#endif

// ----------------------------------------------------------------------------------------- errors

/** What went wrong. Copyable; independent of the object that failed. */
class Error : public std::exception {
  public:
    /** @param json  the object that dynamo_last_error_json() describes */
    Error(std::int32_t status, std::string message, std::string json)
        : status_(status), message_(std::move(message)), json_(std::move(json)) {}

    /** The error of this thread's latest C call; call it before another. */
    static Error last() {
        return {dynamo_last_status(), dynamo_last_error(), dynamo_last_error_json()};
    }

    /** A dynamo_status_t; negative. */
    std::int32_t status() const noexcept { return status_; }
    /** Its name, "DYNAMO_ERROR_CANCELLED". Static. */
    const char *status_name() const noexcept { return dynamo_status_name(status_); }
    /** What is wrong and what would be right. */
    const char *what() const noexcept override { return message_.c_str(); }
    /** The same as what(). */
    const std::string &message() const noexcept { return message_; }
    /** All details, the object that dynamo_last_error_json() describes. */
    const std::string &json() const noexcept { return json_; }
    /** The same call may succeed later. */
    bool is_retriable() const noexcept { return has("\"retriable\":true"); }
    /** The runtime, or Python in this process, will not recover. */
    bool is_fatal() const noexcept { return has("\"fatal\":true"); }

  private:
    // Inside a JSON string the quotes would be escaped, so only a member looks like this.
    bool has(const char *member) const noexcept { return json_.find(member) != std::string::npos; }

    std::int32_t status_;
    std::string message_;
    std::string json_;
};

/** A value or the Error that came in its place; the part of std::expected that is needed here. */
template <class T>
class [[nodiscard]] Result {
  public:
    /** With a value. */
    Result(T value) : either_(std::in_place_index<0>, std::move(value)) {}
    /** With an error. */
    Result(Error error) : either_(std::in_place_index<1>, std::move(error)) {}

    /** Whether there is no error. */
    bool has_value() const noexcept { return either_.index() == 0; }
    /** The same. */
    explicit operator bool() const noexcept { return has_value(); }
    /** The value; the program ends (std::abort()) if there is none, so ask first. */
    T &value() & { return *require(std::get_if<0>(&either_)); }
    /** The same. */
    const T &value() const & { return *require(std::get_if<0>(&either_)); }
    /** The same, as a copy that was moved. */
    T value() && { return std::move(value()); }  // no reference: `for (... : *runtime.send(x))`
    /** As value(). */
    T &operator*() & { return value(); }
    /** As value(). */
    const T &operator*() const & { return value(); }
    /** As value(). */
    T operator*() && { return std::move(*this).value(); }
    /** As value(). */
    T *operator->() { return &value(); }
    /** As value(). */
    const T *operator->() const { return &value(); }
    /** The error; the program ends if there is a value instead. */
    const Error &error() const { return *require(std::get_if<1>(&either_)); }

  private:
    template <class P>
    static P *require(P *pointer) {
        if (pointer == nullptr) {
            std::abort();
        }
        return pointer;
    }

    std::variant<T, Error> either_;
};

/** Success or an Error. */
template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    /** With an error. */
    Result(Error error) : error_(std::move(error)) {}

    /** Whether there is no error. */
    bool has_value() const noexcept { return !error_.has_value(); }
    /** The same. */
    explicit operator bool() const noexcept { return has_value(); }
    /** The error; the program ends if there is none. */
    const Error &error() const {
        if (!error_) {
            std::abort();
        }
        return *error_;
    }

  private:
    std::optional<Error> error_;
};

/** What a function that can fail returns: T, or where exceptions are off Result<T>. */
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
template <class T>
using Returned = Result<T>;
#else
template <class T>
using Returned = T;
#endif

namespace detail {

// The error in the place of a value.
template <class T>
Returned<T> failed(Error error) {
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
    return error;
#else
    throw error;
#endif
}

inline Returned<void> done(std::int32_t status) {
    if (status < 0) {
        return failed<void>(Error::last());
    }
    return Returned<void>();
}

// C takes a text up to its first NUL: what comes after must not get lost silently.
inline std::optional<Error> check_text(const std::string &text, const char *name) {
    const std::size_t at = text.find('\0');
    if (at == std::string::npos) {
        return std::nullopt;
    }
    std::string message = std::string(name) + " has a NUL byte at position " + std::to_string(at) +
                          ", where a text ends; inside a JSON string it is escaped";
    std::string json = R"({"status":-1,"name":"DYNAMO_ERROR_INVALID_ARGUMENT","message":")" +
                       message + R"(","layer":"core","retriable":false,"fatal":false})";
    return Error(DYNAMO_ERROR_INVALID_ARGUMENT, std::move(message), std::move(json));
}

inline std::string_view view(const char *text) noexcept {
    return text == nullptr ? std::string_view() : std::string_view(text);
}

// Whole milliseconds, rounded up: a wait is never shorter than asked for. -1 is C's for ever.
template <class Rep, class Period>
std::int64_t milliseconds(std::chrono::duration<Rep, Period> duration) noexcept {
    const double exact = std::chrono::duration<double, std::milli>(duration).count();
    if (exact <= 0) {
        return 0;
    }
    return exact < 9e15 ? static_cast<std::int64_t>(std::ceil(exact)) : -1;  // -1 for NaN, too
}

template <class T>
struct Free {
    void operator()(T *pointer) const noexcept { dynamo_free(pointer); }
};
struct DestroyRequest {
    void operator()(dynamo_request_t *request) const noexcept { dynamo_request_destroy(request); }
};
struct DestroyQueue {
    void operator()(dynamo_queue_t *queue) const noexcept { dynamo_queue_destroy(queue); }
};
struct DestroyRuntime {
    void operator()(dynamo_runtime_t *runtime) const noexcept { dynamo_runtime_destroy(runtime); }
};
struct DestroyTokenizer {
    void operator()(dynamo_tokenizer_t *tokenizer) const noexcept {
        dynamo_tokenizer_destroy(tokenizer);
    }
};
struct DestroyDetokenizer {
    void operator()(dynamo_detokenizer_t *detokenizer) const noexcept {
        dynamo_detokenizer_destroy(detokenizer);
    }
};

// The text that a C function handed over, as a string; length is nullptr if it ends at its NUL.
inline Returned<std::string> owned_text(char *given, const std::size_t *length = nullptr) {
    const std::unique_ptr<char, Free<char>> text(given);
    if (text == nullptr) {
        return failed<std::string>(Error::last());
    }
    return length == nullptr ? std::string(text.get()) : std::string(text.get(), *length);
}

}  // namespace detail

/** A time-out or deadline that never comes. */
inline constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

// ------------------------------------------------------------------------------------------- JSON

/**
 * A JSON value being written: what the builders take. Made of bool, numbers, texts (UTF-8), and with
 * array() and object() of others; raw() takes JSON text as it is.
 */
class Json {
  public:
    /** null */
    Json(std::nullptr_t) : text_("null") {}
    /** A string; "" for NULL. */
    Json(const char *text) { append_string(detail::view(text)); }
    /** A string. */
    Json(std::string_view text) { append_string(text); }
    /** A string. */
    Json(const std::string &text) { append_string(text); }
    /** true, false, or a number. */
    template <class Number, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
    Json(Number value) {
        if constexpr (std::is_same_v<Number, bool>) {
            text_ = value ? "true" : "false";
        } else if constexpr (std::is_integral_v<Number>) {
            text_ = std::to_string(value);
        } else {
            append_float(static_cast<double>(value));
        }
    }
    /** An array. */
    template <class Element>
    Json(const std::vector<Element> &values) : text_("[") {
        for (const auto &value : values) {
            text_ += (text_.size() > 1 ? ", " : "") + Json(value).text_;
        }
        text_ += ']';
    }

    /** An array of values of different types. */
    static Json array(std::initializer_list<Json> values) { return {std::vector<Json>(values)}; }
    /** An object. */
    static Json object(std::initializer_list<std::pair<std::string_view, Json>> members) {
        Json object = raw("{}");
        for (const auto &[key, value] : members) {
            object.add(key, value);
        }
        return object;
    }
    /** JSON text as it is. Only the library looks at it, when it gets it: whatever is no JSON, NaN and
     * infinity too, and texts that are not UTF-8, are DYNAMO_ERROR_INVALID_JSON there. */
    static Json raw(std::string text) {
        Json json(nullptr);
        json.text_ = std::move(text);
        return json;
    }

    /** Appends a member to an object. A key that is there already gets its last value. */
    Json &add(std::string_view key, const Json &value) {
        reopen('{', '}');
        append_string(key);
        text_ += ": " + value.text_ + '}';
        return *this;
    }
    /** Appends an element to an array. */
    Json &push(const Json &value) {
        reopen('[', ']');
        text_ += value.text_ + ']';
        return *this;
    }

    /** The JSON text. */
    const std::string &text() const noexcept { return text_; }

  private:
    // Takes the last bracket off, for one more. What has none becomes no JSON, so the library tells.
    void reopen(char first, char last) {
        const auto trim = [this] { text_.erase(text_.find_last_not_of(" \t\r\n") + 1); };
        trim();
        if (!text_.empty() && text_.back() == last) {
            text_.pop_back();
            trim();
        }
        if (text_.empty() || text_.back() != first) {
            text_ += ", ";
        }
    }
    void append_string(std::string_view text) {
        text_ += '"';
        for (const char c : text) {
            if (c == '"' || c == '\\') {
                text_ += '\\';
                text_ += c;
            } else if (static_cast<unsigned char>(c) < 0x20) {
                const char *const digits = "0123456789abcdef";
                text_ += "\\u00";
                text_ += digits[(c >> 4) & 15];
                text_ += digits[c & 15];
            } else {
                text_ += c;
            }
        }
        text_ += '"';
    }
    void append_float(double value) {  // to the last bit, whatever the locale
#if defined(__cpp_lib_to_chars)
        char digits[32];
        text_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
#else
        std::ostringstream out;
        out.imbue(std::locale::classic());
        out.precision(17);
        out << value;
        text_ += out.str();
#endif
    }

    std::string text_;
};

/** A runtime's configuration; dynamo_config_schema() has all keys. Defaults to the demo model. */
class Config {
  public:
    /** An engine by name: "mistralrs", "echo", "scripted", "module:Class", ... */
    Config &engine(std::string_view name) { return set("engine", name); }
    /** Directory or file of the model. */
    Config &model(std::string_view path) { return set("model", path); }
    /** A setting of the engine's own. */
    Config &option(std::string_view key, const Json &value) {
        options_.add(key, value);
        return *this;
    }
    /** Bound of a request's stream in tokens, and whether a full one makes the engine wait. */
    Config &stream(std::size_t capacity, bool fail_when_full = false) {
        return set("stream", Json::object({{"capacity", capacity},
                                           {"when_full", fail_when_full ? "fail" : "block"}}));
    }
    /** Any key, last value wins. */
    Config &set(std::string_view key, const Json &value) {
        if (key == "options") {
            options_ = value;
        } else {
            object_.add(key, value);
        }
        return *this;
    }
    /** The whole configuration. */
    std::string json() const {
        Json whole = object_;
        if (options_.text() != "{}") {
            whole.add("options", options_);
        }
        return whole.text();
    }

  private:
    Json object_ = Json::raw("{}");
    Json options_ = Json::raw("{}");
};

/** What the bodies of requests have in common; see Chat, Completion and Embedding. */
template <class Body>
class RequestBody {
  public:
    /** Name of a model, for engines that serve several. */
    Body &model(std::string_view name) { return set("model", name); }
    /** Most tokens of the answer. */
    Body &max_tokens(std::uint64_t tokens) { return set("max_tokens", tokens); }
    /** 0 is greedy. */
    Body &temperature(double value) { return set("temperature", value); }
    /** Samples from the likeliest tokens, whose probabilities add up to this. */
    Body &top_p(double value) { return set("top_p", value); }
    /** Seed of the sampler. */
    Body &seed(std::int64_t value) { return set("seed", value); }
    /** Texts that end the answer and are not part of it. */
    Body &stop(const std::vector<std::string> &texts) { return set("stop", texts); }
    /** Number of choices. */
    Body &n(std::uint32_t choices) { return set("n", choices); }
    /** False: the whole answer comes as one response. Without this it streams. */
    Body &stream(bool value) { return set("stream", value); }
    /** Any key, last value wins. */
    Body &set(std::string_view key, const Json &value) {
        object_.add(key, value);
        return static_cast<Body &>(*this);
    }
    /** The body. */
    std::string json() const { return object_.text(); }

  protected:
    /** What has been set. */
    Json object_ = Json::raw("{}");
};

/** A chat: OpenAI's body with "messages". */
class Chat : public RequestBody<Chat> {
  public:
    Chat() = default;
    /** A question of the user. */
    explicit Chat(std::string_view question) { user(question); }

    /** A message with the role "system". */
    Chat &system(std::string_view content) { return message("system", content); }
    /** A message of the user. */
    Chat &user(std::string_view content) { return message("user", content); }
    /** A message of the model, from earlier in the chat. */
    Chat &assistant(std::string_view content) { return message("assistant", content); }
    /** A message with any role; its content is a text or OpenAI's array of parts. */
    Chat &message(std::string_view role, const Json &content) {
        return message(Json::object({{"role", role}, {"content", content}}));
    }
    /** A message as a whole object, for keys such as "tool_call_id". */
    Chat &message(const Json &whole) {
        messages_.push(whole);
        return *this;
    }
    /** Any key, last value wins; "messages" are those so far. */
    Chat &set(std::string_view key, const Json &value) {
        if (key == "messages") {
            messages_ = value;
            return *this;
        }
        return RequestBody::set(key, value);
    }
    /** The body. */
    std::string json() const { return Json(object_).add("messages", messages_).text(); }

  private:
    Json messages_ = Json::raw("[]");
};

/** A completion: OpenAI's body with "prompt". */
class Completion : public RequestBody<Completion> {
  public:
    /** A prompt, taken as it is. */
    explicit Completion(std::string_view prompt) { set("prompt", prompt); }
    /** A prompt of token ids. */
    explicit Completion(const std::vector<std::uint32_t> &token_ids) { set("prompt", token_ids); }
    /** The same. */
    explicit Completion(std::initializer_list<std::uint32_t> token_ids)
        : Completion(std::vector<std::uint32_t>(token_ids)) {}
};

/** An embedding: OpenAI's body with "input". */
class Embedding : public RequestBody<Embedding> {
  public:
    /** One text. */
    explicit Embedding(std::string_view input) { set("input", input); }
    /** Several texts; the vectors come in their order. */
    explicit Embedding(const std::vector<std::string> &inputs) { set("input", inputs); }
    /** The same. */
    explicit Embedding(std::initializer_list<std::string> inputs)
        : Embedding(std::vector<std::string>(inputs)) {}
};

// --------------------------------------------------------------------------------------- response

/** Token ids inside a Response: a contiguous range, which std::span takes. */
class TokenIds {
  public:
    TokenIds() = default;
    /** Does not own what it points at. */
    TokenIds(const std::uint32_t *data, std::size_t size) noexcept : data_(data), size_(size) {}

    /** The first; NULL if there is none. */
    const std::uint32_t *data() const noexcept { return data_; }
    /** How many. */
    std::size_t size() const noexcept { return size_; }
    /** Whether there is none. */
    bool empty() const noexcept { return size_ == 0; }
    /** The first. */
    const std::uint32_t *begin() const noexcept { return data_; }
    /** Behind the last. */
    const std::uint32_t *end() const noexcept { return data_ + size_; }
    /** One of them; the index is not checked. */
    std::uint32_t operator[](std::size_t index) const noexcept { return data_[index]; }

  private:
    const std::uint32_t *data_ = nullptr;
    std::size_t size_ = 0;
};

/** An item of data inside a Response. */
struct Item {
    /** Its bytes. */
    std::string_view bytes;
    /** Whether they are a JSON text. */
    bool is_json = false;
};

/** Token counts of a request. */
struct Usage {
    /** Tokens of the prompt. */
    std::uint64_t prompt_tokens = 0;
    /** Tokens of the answer, all choices together. */
    std::uint64_t completion_tokens = 0;
    /** Part of prompt_tokens that came from a prefix cache. */
    std::uint64_t cached_tokens = 0;
};

/** When what happened to a request, since it was sent; empty if it did not happen, or not yet. */
struct Timing {
    /** The engine got it: before, it waited for a place. */
    std::optional<std::chrono::microseconds> queue;
    /** The engine pushed the first of the answer (TTFT). */
    std::optional<std::chrono::microseconds> first_token;
    /** It ended. */
    std::optional<std::chrono::microseconds> total;
};

namespace detail {
inline Timing timing(const dynamo_timing_t &times) noexcept {
    const auto one = [](std::int64_t microseconds) -> std::optional<std::chrono::microseconds> {
        if (microseconds < 0) {
            return std::nullopt;
        }
        return std::chrono::microseconds(microseconds);
    };
    return {one(times.queue_us), one(times.first_token_us), one(times.total_us)};
}
}  // namespace detail

/** Everything that had come of one choice when it was received. Move-only; empty when moved from:
 * then it has no text, no tokens and no reason. */
class Response {
  public:
    Response() = default;
    /** Takes a handle of the C interface over. */
    explicit Response(dynamo_response_t *owned) noexcept : handle_(owned) {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_response_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_response_t *release() noexcept { return handle_.release(); }

    /** UTF-8; never splits a code point. */
    std::string_view text() const noexcept {
        std::size_t length = 0;
        const char *const text = dynamo_response_text(get(), &length);
        return text == nullptr ? std::string_view() : std::string_view(text, length);
    }
    /** Empty if the engine gives none. */
    TokenIds token_ids() const noexcept {
        std::size_t count = 0;
        const std::uint32_t *const ids = dynamo_response_token_ids(get(), &count);
        return ids == nullptr ? TokenIds() : TokenIds(ids, count);
    }
    /** Number of the choice, from 0. */
    std::uint32_t index() const noexcept { return dynamo_response_index(get()); }
    /** "stop", "length", ... in the last response of a choice, else empty. */
    std::string_view finish_reason() const noexcept {
        return detail::view(dynamo_response_finish_reason(get()));
    }
    /** In the last response, if the engine counts. */
    std::optional<Usage> usage() const noexcept {
        dynamo_usage_t counts{};
        counts.struct_size = sizeof counts;
        if (dynamo_response_usage(get(), &counts) != DYNAMO_OK) {
            return std::nullopt;
        }
        return Usage{counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens};
    }
    /** In the last response of all. */
    std::optional<Timing> timing() const noexcept {
        dynamo_timing_t times{};
        times.struct_size = sizeof times;
        if (dynamo_response_timing(get(), &times) != DYNAMO_OK) {
            return std::nullopt;
        }
        return detail::timing(times);
    }
    /** Number of items of data; 0 unless the request was one of data. */
    std::size_t item_count() const noexcept { return dynamo_response_item_count(get()); }
    /** An item of data, from 0: bytes that are this response's, and what they are. Errors:
     * INVALID_ARGUMENT (no such item). */
    Returned<Item> item(std::size_t index) const {
        dynamo_data_t data{};
        if (dynamo_response_item(get(), index, &data) != DYNAMO_OK) {
            return detail::failed<Item>(Error::last());
        }
        return Item{{static_cast<const char *>(data.bytes), data.length},
                    data.kind == DYNAMO_DATA_JSON};
    }
    /** OpenAI's JSON; built at the first call. Errors: INVALID_HANDLE, OUT_OF_MEMORY. */
    Returned<std::string_view> json() const {
        const char *const text = dynamo_response_json(get());
        if (text == nullptr) {
            return detail::failed<std::string_view>(Error::last());
        }
        return std::string_view(text);
    }

  private:
    std::unique_ptr<dynamo_response_t, detail::Free<dynamo_response_t>> handle_;
};

// ---------------------------------------------------------------------------------------- request

/** What Request::next() or a callback gives: a response, or why there is none. */
struct Received {
    /** DYNAMO_OK with a response; else DYNAMO_PENDING, DYNAMO_END or the error that ended it. */
    std::int32_t status = DYNAMO_PENDING;
    /** Empty unless status is DYNAMO_OK. */
    Response response;

    /** Whether there is a response. */
    explicit operator bool() const noexcept { return status == DYNAMO_OK; }
    /** Whether nothing had come yet. */
    bool is_pending() const noexcept { return status == DYNAMO_PENDING; }
    /** Whether it was the last one: the end, or an error. */
    bool has_ended() const noexcept { return status != DYNAMO_OK && status != DYNAMO_PENDING; }
};

/** What Queue::next() gives: an event of one of its requests, or why there is none. */
struct Event {
    /** DYNAMO_OK with a response; DYNAMO_END or the error that ended the request, in its terminal event;
     * without a request, DYNAMO_PENDING (nothing came) or why there are no events. */
    std::int32_t status = DYNAMO_PENDING;
    /** Empty unless status is DYNAMO_OK. */
    Response response;
    /** Whose event it is; not owned. */
    dynamo_request_t *request = nullptr;
    /** As given to Request::set_queue(). */
    void *user = nullptr;

    /** Whether there is a response. */
    explicit operator bool() const noexcept { return status == DYNAMO_OK; }
    /** Whether nothing had come yet. */
    bool is_pending() const noexcept { return status == DYNAMO_PENDING; }
    /** Whether it was the request's last one. */
    bool has_ended() const noexcept { return request != nullptr && status != DYNAMO_OK; }
};

/** A place where the events of many requests arrive, so that one thread serves them all. Move-only. */
class Queue {
  public:
    Queue() = default;
    /** Takes a handle of the C interface over. */
    explicit Queue(dynamo_queue_t *owned) noexcept : handle_(owned) {}
    /** A new one. Errors: OUT_OF_MEMORY. */
    [[nodiscard]] static Returned<Queue> create() {
        dynamo_queue_t *const handle = dynamo_queue_create();
        if (handle == nullptr) {
            return detail::failed<Queue>(Error::last());
        }
        return Queue(handle);
    }

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_queue_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_queue_t *release() noexcept { return handle_.release(); }

    /** Waits for the next event. Never throws: the outcome is in the result. Several threads may wait; see
     * dynamo_queue_next(). */
    template <class Rep, class Period>
    Event next(std::chrono::duration<Rep, Period> timeout) const noexcept {
        dynamo_event_t event{};
        event.struct_size = sizeof event;
        const std::int32_t status = dynamo_queue_next(get(), detail::milliseconds(timeout), &event);
        if (status != DYNAMO_OK) {
            return {status, Response(), nullptr, nullptr};
        }
        return {event.status, Response(event.response), event.request, event.user};
    }
    /** Waits as long as it takes. */
    Event next() const noexcept { return next(forever); }
    /** What is there already. */
    Event poll() const noexcept { return next(std::chrono::milliseconds(0)); }

  private:
    std::unique_ptr<dynamo_queue_t, detail::DestroyQueue> handle_;
};

/** One run, from its body to its terminal event. Move-only; destroying it cancels it. */
class Request {
  public:
    Request() = default;
    /** Takes a handle of the C interface over. */
    explicit Request(dynamo_request_t *owned) noexcept : handle_(owned) {}

    /** Of OpenAI's JSON. Errors: INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST. */
    [[nodiscard]] static Returned<Request> create(const std::string &json) {
        if (auto error = detail::check_text(json, "request_json")) {
            return detail::failed<Request>(std::move(*error));
        }
        dynamo_request_t *const handle = dynamo_request_create(json.c_str());
        if (handle == nullptr) {
            return detail::failed<Request>(Error::last());
        }
        return Request(handle);
    }
    /** Of data, for engines that take it: a JSON text. Errors: INVALID_JSON. */
    [[nodiscard]] static Returned<Request> of_json(std::string_view json) {
        return of_data(DYNAMO_DATA_JSON, json);
    }
    /** Of data, for engines that take it: any bytes. */
    [[nodiscard]] static Returned<Request> of_bytes(std::string_view bytes) {
        return of_data(DYNAMO_DATA_BYTES, bytes);
    }
    /** Of a Chat, Completion or Embedding. */
    template <class Body, class = decltype(std::declval<const Body &>().json())>
    [[nodiscard]] static Returned<Request> create(const Body &body) {
        return create(body.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** As create(). */
    explicit Request(const std::string &json) : Request(create(json)) {}
    /** As create(). */
    template <class Body, class = decltype(std::declval<const Body &>().json())>
    explicit Request(const Body &body) : Request(create(body)) {}
#endif

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_request_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_request_t *release() noexcept { return handle_.release(); }

    /** Before sending: limits counted from then on, to the first token and to the end. Errors:
     * INVALID_ARGUMENT (0), INVALID_STATE (sent). */
    template <class First, class Total = std::chrono::milliseconds>
    Returned<void> set_deadlines(First first_token, Total total = forever) {
        return detail::done(dynamo_request_set_deadlines(get(), detail::milliseconds(first_token),
                                                         detail::milliseconds(total)));
    }

    /**
     * Before sending: has events delivered to a function `void(Received)` from the library's
     * callback thread, in place of next(). It is copied or moved into the heap, once, and destroyed
     * after the terminal event. If it throws, the request is cancelled; where exceptions are off it
     * must not.
     * Errors: INVALID_STATE (sent, or has one).
     */
    template <class Function>
    Returned<void> set_callback(Function &&function) {
        using Kept = std::decay_t<Function>;
        auto kept = std::make_unique<Kept>(std::forward<Function>(function));
        const std::int32_t status = dynamo_request_set_callback(
            get(),
            [](void *user, dynamo_request_t *request, dynamo_response_t *response,
               std::int32_t outcome) {
                Received received{outcome, Response(response)};
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
                (void)request;
                (*static_cast<Kept *>(user))(std::move(received));
#else
                try {
                    (*static_cast<Kept *>(user))(std::move(received));
                } catch (...) {  // must not pass through C
                    dynamo_request_cancel(request);
                }
#endif
            },
            kept.get(), [](void *user) { delete static_cast<Kept *>(user); });
        if (status == DYNAMO_OK) {
            kept.release();
        }
        return detail::done(status);
    }

    /** Before sending: has events delivered to a queue, with `user`, in place of next(). Errors:
     * INVALID_HANDLE, INVALID_STATE (sent, or has a queue or a callback). */
    Returned<void> set_queue(const Queue &queue, void *user = nullptr) {
        return detail::done(dynamo_request_set_queue(get(), queue.get(), user));
    }

    /** Waits for more of the answer. Never throws: the outcome is in the result, an error's story
     * in error(). */
    template <class Rep, class Period>
    Received next(std::chrono::duration<Rep, Period> timeout) const noexcept {
        dynamo_response_t *response = nullptr;
        const std::int32_t status =
            dynamo_request_next(get(), detail::milliseconds(timeout), &response);
        return {status, Response(response)};
    }
    /** Waits as long as it takes. */
    Received next() const noexcept { return next(forever); }
    /** What is there already. */
    Received poll() const noexcept { return next(std::chrono::milliseconds(0)); }

    /** Waits for more of the answer; an empty Response after the end. Errors: what ended the
     * request; INVALID_HANDLE, INVALID_STATE (not sent, or has a callback). */
    Returned<Response> recv() const {
        Received received = next();
        if (received.status < 0) {
            return detail::failed<Response>(Error::last());
        }
        return std::move(received.response);
    }

    /** Any thread, any time, again. The terminal event is then DYNAMO_ERROR_CANCELLED. */
    void cancel() const noexcept { dynamo_request_cancel(get()); }

    /** Readable while poll() would give something; for poll(2) and event loops. Lives as long as
     * the request. Errors: INVALID_HANDLE, INVALID_STATE, SYSTEM, NOT_SUPPORTED. */
    Returned<int> fd() const {
        const int descriptor = dynamo_request_fd(get());
        if (descriptor < 0) {
            return detail::failed<int>(Error::last());
        }
        return descriptor;
    }

    /** DYNAMO_PENDING before the end, then DYNAMO_END or the error that ended it. */
    std::int32_t status() const noexcept { return dynamo_request_status(get()); }
    /** The error that ended it, if one did. */
    std::optional<Error> error() const {
        const char *const message = dynamo_request_error(get());
        if (message == nullptr) {
            return std::nullopt;
        }
        return Error(status(), message, dynamo_request_error_json(get()));
    }
    /** When what happened to it, so far. Empty if there is no handle. */
    Timing timing() const noexcept {
        dynamo_timing_t times{};
        times.struct_size = sizeof times;
        return dynamo_request_timing(get(), &times) == DYNAMO_OK ? detail::timing(times) : Timing();
    }
    /** "req-" and 16 hexadecimal digits; lives as long as the request. Empty if there is none. */
    std::string_view id() const noexcept { return detail::view(dynamo_request_id(get())); }

    /**
     * The responses as a range: `for (auto &response : request)`; in C++20 an input_range. begin()
     * and each step wait for the next one; a step frees the one before. With exceptions an error is
     * thrown by the step that meets it; without them the loop ends, and status() is DYNAMO_END only
     * after the whole answer.
     */
    class Iterator {
      public:
        /** @cond */
        // Move-only, so an iterator of C++20 and none of C++17's.
        using iterator_concept = std::input_iterator_tag;
        using value_type = Response;
        using difference_type = std::ptrdiff_t;

        Iterator() = default;
        explicit Iterator(dynamo_request_t *request) : request_(request) { ++*this; }

        Response &operator*() const noexcept { return response_; }
        Response *operator->() const noexcept { return &response_; }
        Iterator &operator++() {
            dynamo_response_t *const next = dynamo_request_recv(request_);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
            if (next == nullptr && dynamo_last_status() < 0) {
                detail::failed<void>(Error::last());
            }
#endif
            response_ = Response(next);
            return *this;
        }
        void operator++(int) { ++*this; }
        /** @endcond */

        /** What an iterator is compared with. */
        struct End {};
        friend bool operator==(const Iterator &it, End) noexcept { return !it.response_; }
        friend bool operator!=(const Iterator &it, End) noexcept { return bool(it.response_); }
        friend bool operator==(End, const Iterator &it) noexcept { return !it.response_; }
        friend bool operator!=(End, const Iterator &it) noexcept { return bool(it.response_); }

      private:
        dynamo_request_t *request_ = nullptr;  // stays what it is if the Request is moved
        mutable Response response_;  // the iterator owns what it points at, as the C caller does
    };
    /** Waits for the first response. */
    Iterator begin() const { return Iterator(get()); }
    /** The end of the answer. */
    Iterator::End end() const noexcept { return {}; }

#if defined(DYNAMO_LLM_HAS_STOP_TOKEN)
    /** Cancels a request; safe after its end, and after it was destroyed. */
    class Canceller {
      public:
        /** Does not own the request. */
        explicit Canceller(dynamo_request_t *request) noexcept : request_(request) {}
        /** Cancels it. */
        void operator()() const noexcept { dynamo_request_cancel(request_); }

      private:
        dynamo_request_t *request_;
    };
    /** Cancels the request when a stop is asked for, as long as the result lives. */
    [[nodiscard]] std::stop_callback<Canceller> cancel_on(std::stop_token token) const {
        return std::stop_callback<Canceller>(std::move(token), Canceller(get()));
    }
#endif

  private:
    static Returned<Request> of_data(std::int32_t kind, std::string_view data) {
        dynamo_request_t *const handle = dynamo_request_create_data(kind, data.data(), data.size());
        if (handle == nullptr) {
            return detail::failed<Request>(Error::last());
        }
        return Request(handle);
    }

    std::unique_ptr<dynamo_request_t, detail::DestroyRequest> handle_;
};

// ---------------------------------------------------------------------------------------- runtime

/** An engine with a model, ready for requests. Move-only. Destroying it leaves requests in flight
 * to their end. */
class Runtime {
  public:
    /**
     * Starts an engine and waits until its model is loaded.
     * Errors: those of dynamo_runtime_create(); VERSION_MISMATCH, if this header and the library do
     * not fit together.
     */
    [[nodiscard]] static Returned<Runtime> create(const std::string &config_json = "{}") {
        if (auto error = detail::check_text(config_json, "config_json")) {
            return detail::failed<Runtime>(std::move(*error));
        }
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return detail::failed<Runtime>(Error::last());
        }
        dynamo_runtime_t *const handle = dynamo_runtime_create(config_json.c_str());
        if (handle == nullptr) {
            return detail::failed<Runtime>(Error::last());
        }
        return Runtime(handle);
    }
    /** The same, of a Config. */
    [[nodiscard]] static Returned<Runtime> create(const Config &config) {
        return create(config.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    Runtime() : Runtime(create()) {}
    /** As create(). */
    explicit Runtime(const std::string &config_json) : Runtime(create(config_json)) {}
    /** As create(). */
    explicit Runtime(const Config &config) : Runtime(create(config)) {}
#endif
    /** Takes a handle of the C interface over. */
    explicit Runtime(dynamo_runtime_t *owned) noexcept : handle_(owned) {}
    /** An empty one, to be assigned to. */
    explicit Runtime(std::nullptr_t) noexcept {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_runtime_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_runtime_t *release() noexcept { return handle_.release(); }

    /** Sends a request. Errors: those of dynamo_request_send(); after one it can be sent again. */
    Returned<void> send(Request &request) const {
        return detail::done(dynamo_request_send(get(), request.get()));
    }
    /** Makes a request of a Chat, Completion or Embedding, or of JSON, and sends it. */
    template <class Body>
    [[nodiscard]] Returned<Request> send(const Body &body) const {
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
        Result<Request> request = Request::create(body);
        if (request) {
            if (Result<void> sent = send(*request); !sent) {
                return sent.error();
            }
        }
        return request;
#else
        Request request = Request::create(body);
        send(request);
        return request;
#endif
    }

    /** Takes no more requests, waits for those in flight, then cancels what is left and stops.
     * Errors: DEADLINE_EXCEEDED, if some were cancelled or the engine has not stopped yet. */
    template <class Rep, class Period>
    Returned<void> shutdown(std::chrono::duration<Rep, Period> timeout) const {
        return detail::done(dynamo_runtime_shutdown(get(), detail::milliseconds(timeout)));
    }

    /** Counters, the JSON object that dynamo_runtime_statistics() describes. */
    Returned<std::string> statistics() const {
        return detail::owned_text(dynamo_runtime_statistics(get()));
    }
    /** What it serves, the JSON that dynamo_runtime_models() describes. */
    Returned<std::string> models() const {
        return detail::owned_text(dynamo_runtime_models(get()));
    }
    /** Metrics in Prometheus' text format. */
    Returned<std::string> metrics() const {
        return detail::owned_text(dynamo_runtime_metrics(get()));
    }

  private:
    std::unique_ptr<dynamo_runtime_t, detail::DestroyRuntime> handle_;
};

// -------------------------------------------------------------------------------------- tokenizer

/** Turns token ids that come bit by bit into a text that comes bit by bit. Move-only;
 * Tokenizer::detokenizer() makes it. It keeps its tokenizer alive. */
class Detokenizer {
  public:
    Detokenizer() = default;
    /** An empty one, to be assigned to. */
    explicit Detokenizer(std::nullptr_t) noexcept {}
    /** Takes a handle of the C interface over. */
    explicit Detokenizer(dynamo_detokenizer_t *owned) noexcept : handle_(owned) {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_detokenizer_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_detokenizer_t *release() noexcept { return handle_.release(); }

    /** What token ids, any number of them, add to the text; empty if nothing yet. It never splits a code
     * point. Waits until it is done. Errors: those of dynamo_detokenizer_add(); then none was added. */
    Returned<std::string> add(TokenIds ids) const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_detokenizer_add(get(), ids.data(), ids.size(), &length),
                                  &length);
    }
    /** The same. */
    Returned<std::string> add(const std::vector<std::uint32_t> &ids) const {
        return add(TokenIds(ids.data(), ids.size()));
    }
    /** The same. */
    Returned<std::string> add(std::initializer_list<std::uint32_t> ids) const {
        return add(TokenIds(ids.begin(), ids.size()));
    }
    /** The same, for one token. */
    Returned<std::string> add(std::uint32_t id) const { return add(TokenIds(&id, 1)); }
    /** Ends the text: what was kept back of it. Then another one may begin. Errors: those of
     * dynamo_detokenizer_finish(). */
    Returned<std::string> finish() const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_detokenizer_finish(get(), &length), &length);
    }

  private:
    std::unique_ptr<dynamo_detokenizer_t, detail::DestroyDetokenizer> handle_;
};

/** A model's tokenizer and chat template, without the model. Move-only. What its functions return is
 * copied into strings and vectors of C++. */
class Tokenizer {
  public:
    /**
     * Opens the tokenizer of a model, and waits until it is loaded; "{}" is that of the demo model.
     * Errors: those of dynamo_tokenizer_create(); VERSION_MISMATCH, if this header and the library do
     * not fit together.
     */
    [[nodiscard]] static Returned<Tokenizer> create(const std::string &config_json = "{}") {
        if (auto error = detail::check_text(config_json, "config_json")) {
            return detail::failed<Tokenizer>(std::move(*error));
        }
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return detail::failed<Tokenizer>(Error::last());
        }
        dynamo_tokenizer_t *const handle = dynamo_tokenizer_create(config_json.c_str());
        if (handle == nullptr) {
            return detail::failed<Tokenizer>(Error::last());
        }
        return Tokenizer(handle);
    }
    /** The same, of a Config: `Config().model("path")`. */
    [[nodiscard]] static Returned<Tokenizer> create(const Config &config) {
        return create(config.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    Tokenizer() : Tokenizer(create()) {}
    /** As create(). */
    explicit Tokenizer(const std::string &config_json) : Tokenizer(create(config_json)) {}
    /** As create(). */
    explicit Tokenizer(const Config &config) : Tokenizer(create(config)) {}
#endif
    /** Takes a handle of the C interface over. */
    explicit Tokenizer(dynamo_tokenizer_t *owned) noexcept : handle_(owned) {}
    /** An empty one, to be assigned to. */
    explicit Tokenizer(std::nullptr_t) noexcept {}

    /** Whether it holds a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** The handle, still owned by this object. */
    dynamo_tokenizer_t *get() const noexcept { return handle_.get(); }
    /** The handle, to be given up by the caller from now on. */
    dynamo_tokenizer_t *release() noexcept { return handle_.release(); }

    /** Turns a text into token ids. Without special tokens around it for a prompt of
     * apply_template(). Waits until it is done. Errors: those of dynamo_tokenizer_encode(). */
    Returned<std::vector<std::uint32_t>> encode(std::string_view text,
                                                bool add_special_tokens = true) const {
        std::uint32_t *ids = nullptr;
        std::size_t count = 0;
        if (dynamo_tokenizer_encode(get(), text.data(), text.size(), add_special_tokens ? 1 : 0,
                                    &ids, &count) != DYNAMO_OK) {
            return detail::failed<std::vector<std::uint32_t>>(Error::last());
        }
        const std::unique_ptr<std::uint32_t, detail::Free<std::uint32_t>> owned(ids);
        return std::vector<std::uint32_t>(ids, ids + count);
    }
    /** Turns token ids into a text. Waits until it is done. Errors: those of
     * dynamo_tokenizer_decode(). */
    Returned<std::string> decode(TokenIds ids, bool skip_special_tokens = true) const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_tokenizer_decode(get(), ids.data(), ids.size(),
                                                          skip_special_tokens ? 1 : 0, &length),
                                  &length);
    }
    /** The same. */
    Returned<std::string> decode(const std::vector<std::uint32_t> &ids,
                                 bool skip_special_tokens = true) const {
        return decode(TokenIds(ids.data(), ids.size()), skip_special_tokens);
    }
    /** The same. */
    Returned<std::string> decode(std::initializer_list<std::uint32_t> ids,
                                 bool skip_special_tokens = true) const {
        return decode(TokenIds(ids.begin(), ids.size()), skip_special_tokens);
    }
    /** Turns a chat into a prompt, by the model's chat template. Waits until it is done. Errors: those
     * of dynamo_tokenizer_apply_template(). */
    Returned<std::string> apply_template(const std::string &chat_json) const {
        if (auto error = detail::check_text(chat_json, "chat_json")) {
            return detail::failed<std::string>(std::move(*error));
        }
        std::size_t length = 0;
        return detail::owned_text(
            dynamo_tokenizer_apply_template(get(), chat_json.c_str(), &length), &length);
    }
    /** The same, of a Chat. */
    Returned<std::string> apply_template(const Chat &chat) const {
        return apply_template(chat.json());
    }
    /** The JSON object that dynamo_tokenizer_info() describes; lives as long as the tokenizer. Errors:
     * INVALID_HANDLE. */
    Returned<std::string_view> info() const {
        const char *const text = dynamo_tokenizer_info(get());
        if (text == nullptr) {
            return detail::failed<std::string_view>(Error::last());
        }
        return std::string_view(text);
    }

    /** Begins a text that comes token by token. Errors: those of dynamo_detokenizer_create(). */
    [[nodiscard]] Returned<Detokenizer> detokenizer(bool skip_special_tokens = true) const {
        dynamo_detokenizer_t *const handle =
            dynamo_detokenizer_create(get(), skip_special_tokens ? 1 : 0);
        if (handle == nullptr) {
            return detail::failed<Detokenizer>(Error::last());
        }
        return Detokenizer(handle);
    }

  private:
    std::unique_ptr<dynamo_tokenizer_t, detail::DestroyTokenizer> handle_;
};

// ---------------------------------------------------------------------------------------- logging

/**
 * Sets where log records go, for the whole process: a function `void(int32_t level,
 * std::string_view logger, std::string_view message)`, called from any thread, several at once. It
 * must not throw. It is copied or moved into the heap, once, and destroyed when another was set.
 */
template <class Function>
Returned<void> set_log(dynamo_log_level_t level, Function &&function) {
    using Kept = std::decay_t<Function>;
    auto kept = std::make_unique<Kept>(std::forward<Function>(function));
    const std::int32_t status = dynamo_log_set_callback(
        level,
        [](void *user, std::int32_t record_level, const char *logger,
           const char *message) noexcept {
            (*static_cast<Kept *>(user))(record_level, detail::view(logger), detail::view(message));
        },
        kept.get(), [](void *user) { delete static_cast<Kept *>(user); });
    if (status == DYNAMO_OK) {
        kept.release();
    }
    return detail::done(status);
}

/** Log records of at least a level go to stderr again; DYNAMO_LOG_OFF for none. */
inline Returned<void> set_log(dynamo_log_level_t level) {
    return detail::done(dynamo_log_set_callback(level, nullptr, nullptr, nullptr));
}

// ------------------------------------------------------------------------------------- coroutines

#if defined(DYNAMO_LLM_HAS_COROUTINES)

/** Resumes a coroutine at once, in the library's callback thread: for coroutines that only pass
 * things on. While one runs, others wait. */
struct InlineExecutor {
    /** Resumes it. */
    void operator()(std::coroutine_handle<> coroutine) const { coroutine.resume(); }
};

/**
 * A request for coroutines: `while (auto received = co_await request.next())`.
 *
 * Where the coroutine goes on is up to the executor: a function `void(std::coroutine_handle<>)`
 * that has resume() called on it, in the program's own loop or pool. It is called from the library's
 * callback thread, so it should only post, and it must not throw: a coroutine would be lost. No
 * thread waits, and the stream stays bounded. The executor is kept in the heap, once; a step
 * allocates nothing.
 *
 * A coroutine that waits is resumed exactly once, whatever happens: also when the request is cancelled
 * or the AsyncRequest destroyed (with DYNAMO_ERROR_CANCELLED). Unless it is destroyed itself: then
 * the executor is not called any more once destroy() returned (a resumption that it was handed before
 * is the program's to drop), and the next coroutine misses nothing. destroy() may have to wait for a
 * call of the executor, so it must not hold a lock that the executor takes.
 *
 * One coroutine at a time may wait; a second one gets DYNAMO_ERROR_INVALID_STATE. Nothing else may
 * receive from the request.
 */
template <class Executor>
class AsyncRequest {
  public:
    class Next;

    /** A request that was sent, and has no callback. */
    AsyncRequest(Request request, Executor executor)
        : state_(std::make_shared<State>(request.get(), std::move(executor))),
          request_(std::move(request)) {}

    /** The request itself, to cancel it or ask how it stands. */
    const Request &request() const noexcept { return request_; }

    /** Awaitable; gives a Received that is never pending. It does not throw. */
    [[nodiscard]] Next next() const noexcept { return Next(state_); }

  private:
    // What the library's callback thread needs: lives as long as anybody uses it.
    struct State : std::enable_shared_from_this<State> {
        State(dynamo_request_t *of, Executor to) : request(of), executor(std::move(to)) {}

        // All with the mutex held. wait() says whether it suspends; if not, `received` has the reason.
        bool wait(Next *next) noexcept {
            const std::int32_t status = asked == nullptr ? ask() : DYNAMO_OK;
            if (status != DYNAMO_OK) {
                received.status = status;
                return false;
            }
            waiting = next;
            return true;
        }
        std::int32_t ask() noexcept {
            asked = this->shared_from_this();
            const std::int32_t status = dynamo_request_notify(request, &State::wake, this);
            if (status != DYNAMO_OK) {
                asked = nullptr;
            }
            return status;
        }
        void poll() noexcept {
            dynamo_response_t *response = nullptr;
            received.status = dynamo_request_next(request, 0, &response);
            received.response = Response(response);
        }
        static void wake(void *user) noexcept {
            const std::shared_ptr<State> state = static_cast<State *>(user)->shared_from_this();
            const std::lock_guard<std::recursive_mutex> lock(state->mutex);
            state->asked = nullptr;
            if (state->waiting == nullptr) {
                return;  // it was destroyed meanwhile; the next one finds what there is
            }
            state->poll();
            if (state->received.status == DYNAMO_ERROR_INVALID_HANDLE) {
                state->received.status = DYNAMO_ERROR_CANCELLED;  // as C gives it to who waits
            }
            if (state->received.is_pending()) {
                state->received.status = state->ask();
                if (state->received.status == DYNAMO_OK) {
                    state->received.status = DYNAMO_PENDING;
                    return;
                }
            }
            state->executor(state->waiting->coroutine_);
        }

        dynamo_request_t *const request;
        Executor executor;
        // Recursive, for executors that resume at once. Held while the executor is called, so that
        // who destroys a coroutine knows that it will not be resumed.
        std::recursive_mutex mutex;
        Next *waiting = nullptr;       // suspended, or woken and not resumed yet
        Received received;             // what it was woken for; pending if there is nothing
        std::shared_ptr<State> asked;  // itself, while a call of wake() is to come
    };

  public:
    /** What next() gives, to be awaited at once, by one coroutine. */
    class Next {
      public:
        /** @cond */
        explicit Next(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
        Next(const Next &) = delete;
        Next &operator=(const Next &) = delete;
        ~Next() {
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            if (state_->waiting == this) {
                state_->waiting = nullptr;
            }
        }

        bool await_ready() noexcept {
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            if (state_->waiting != nullptr) {
                is_second_ = true;
                return true;
            }
            if (state_->received.is_pending()) {
                state_->poll();
            }
            return !state_->received.is_pending();
        }
        // Not inlined: once the mutex is free the coroutine may run, and end, in another thread, and
        // some compilers keep what is inlined here in its frame.
        [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> coroutine) noexcept {
            const std::shared_ptr<State> state = state_;  // outlives the lock
            const std::lock_guard<std::recursive_mutex> lock(state->mutex);
            coroutine_ = coroutine;
            return state->wait(this);
        }
        Received await_resume() noexcept {
            if (is_second_) {
                return {DYNAMO_ERROR_INVALID_STATE, Response()};
            }
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            state_->waiting = nullptr;
            return std::exchange(state_->received, Received());
        }
        /** @endcond */

      private:
        friend State;

        const std::shared_ptr<State> state_;
        std::coroutine_handle<> coroutine_;
        bool is_second_ = false;
    };

  private:
    std::shared_ptr<State> state_;
    Request request_;
};

/** AsyncRequest(std::move(request), executor) finds the type of the executor. */
template <class Executor>
AsyncRequest(Request, Executor) -> AsyncRequest<Executor>;

#endif  // DYNAMO_LLM_HAS_COROUTINES

}  // namespace returning or throwing
}  // namespace dynamo_llm

#endif  // DYNAMO_LLM_HPP
