// SPDX-License-Identifier: Apache-2.0
/**
 * @file dynamo_llm.hpp
 * @brief LLM inference from C++: dynamo_llm.h with RAII, ranges, coroutines, and exceptions.
 *
 * A complete program body:
 *
 *     dynamo_llm::Runtime runtime;
 *     for (auto &response : runtime.send(dynamo_llm::Chat("What is a KV cache?"))) {
 *         std::cout << response.text() << std::flush;
 *     }
 *
 * Header-only: it needs dynamo_llm.h and nothing else, so you may copy it next to an installed C library and link that
 * library. It needs C++17; with C++20 it also has coroutines (AsyncRequest), std::stop_token, and ranges.
 *
 *  - Cost:     A Runtime, Request, Response, or Tokenizer is one C handle, and its functions call the C functions
 *              directly: nothing is allocated or copied in between, unless a comment says so. Texts that C needs
 *              NUL-terminated are taken as std::string; a NUL byte inside one is DYNAMO_ERROR_INVALID_ARGUMENT.
 *  - Errors:   An error is thrown as Error, with all error details of the C interface. If exceptions are off, or
 *              DYNAMO_LLM_NO_EXCEPTIONS is defined, a function that can fail returns a Result instead, which must
 *              not be ignored (Returned<T> is either), and objects are made with create() functions, which exist in
 *              both modes. Running out of memory in the C++ standard library is not handled.
 *  - Threads:  As in C, any thread may call any const function on an object that other threads use. As with every C++
 *              object, no other thread may use it while it is assigned to, moved from, or destroyed. (To destroy an
 *              object that others wait for, cancel() it first.)
 *  - Blocking: As in C, next(), recv(), and iteration wait for the answer; creating a Runtime waits for the model;
 *              functions of a Tokenizer wait for their result. All other functions return at once.
 *  - Times:    Any std::chrono duration, rounded up to milliseconds. As in the standard library, a negative one has
 *              already passed; `forever` never passes.
 *  - Views:    A std::string_view or TokenIds points into the object that it was obtained from.
 *
 * C functions without anything to own are not wrapped: call dynamo_version_string(), dynamo_abi_version(),
 * dynamo_config_schema(), and those for authors of engines directly.
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
/** Defined if AsyncRequest is available. */
#define DYNAMO_LLM_HAS_COROUTINES 1
#include <coroutine>
#include <mutex>
#endif
#if defined(__cpp_lib_jthread)
/** Defined if Request::cancel_on() is available. */
#define DYNAMO_LLM_HAS_STOP_TOKEN 1
#include <stop_token>
#endif

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define DYNAMO_LLM_NO_EXCEPTIONS
#endif

// One program may have files that were compiled with different options. If an option changes what functions do
// (exceptions), the contents of a vtable (RTTI), or the size of containers (libstdc++'s debug mode), everything here
// gets another name, so that the linker cannot merge the variants. Other options, such as the language standard, do
// not change this header.
/** @cond */
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
#define DYNAMO_LLM_ERRORS returning
#else
#define DYNAMO_LLM_ERRORS throwing
#endif
#if defined(__cpp_rtti) || defined(__GXX_RTTI) || defined(_CPPRTTI)
#define DYNAMO_LLM_BEGIN_RTTI
#define DYNAMO_LLM_END_RTTI
#else
#define DYNAMO_LLM_BEGIN_RTTI inline namespace without_rtti {
#define DYNAMO_LLM_END_RTTI }
#endif
#if defined(_GLIBCXX_DEBUG)
#define DYNAMO_LLM_BEGIN_CONTAINERS inline namespace checked_containers {
#define DYNAMO_LLM_END_CONTAINERS }
#else
#define DYNAMO_LLM_BEGIN_CONTAINERS
#define DYNAMO_LLM_END_CONTAINERS
#endif
#define DYNAMO_LLM_BEGIN                 \
    namespace dynamo_llm {               \
    inline namespace DYNAMO_LLM_ERRORS { \
    DYNAMO_LLM_BEGIN_RTTI DYNAMO_LLM_BEGIN_CONTAINERS
#define DYNAMO_LLM_END                            \
    DYNAMO_LLM_END_CONTAINERS DYNAMO_LLM_END_RTTI \
    }                                             \
    }
/** @endcond */

DYNAMO_LLM_BEGIN

// ----------------------------------------------------------------------------------------- errors

/** An error. Copyable, and independent of the object that failed. */
class Error : public std::exception {
  public:
    /** @param json  the error details, see dynamo_last_error_json() */
    Error(std::int32_t status, std::string message, std::string json)
        : status_(status), message_(std::move(message)), json_(std::move(json)) {}

    /** Returns the error of the calling thread's latest C call. Call this before any other C function. */
    static Error last() {
        return {dynamo_last_status(), dynamo_last_error(), dynamo_last_error_json()};
    }

    /** Returns the status: a negative dynamo_status_t. */
    std::int32_t status() const noexcept { return status_; }
    /** Returns the name of the status, such as "DYNAMO_ERROR_CANCELLED". The string is static. */
    const char *status_name() const noexcept { return dynamo_status_name(status_); }
    /** Returns the message: what is wrong and what would be right. */
    const char *what() const noexcept override { return message_.c_str(); }
    /** Same as what(). */
    const std::string &message() const noexcept { return message_; }
    /** Returns the error details, see dynamo_last_error_json(). */
    const std::string &json() const noexcept { return json_; }
    /** Returns whether the same call may succeed later. */
    bool is_retriable() const noexcept { return has("\"retriable\":true"); }
    /** Returns whether the runtime, or Python in this process, will not recover. */
    bool is_fatal() const noexcept { return has("\"fatal\":true"); }
    /** Returns whether the exit of the process ended the request (CLOSED). */
    bool is_exiting() const noexcept { return has("\"exiting\":true"); }

  private:
    // In a JSON string the quotes would be escaped, so this matches members only.
    bool has(const char *member) const noexcept { return json_.find(member) != std::string::npos; }

    std::int32_t status_;
    std::string message_;
    std::string json_;
};

/** A value, or an Error: the part of std::expected that is needed here. */
template <class T>
class [[nodiscard]] Result {
  public:
    /** Holds a value. */
    Result(T value) : either_(std::in_place_index<0>, std::move(value)) {}
    /** Holds an error. */
    Result(Error error) : either_(std::in_place_index<1>, std::move(error)) {}

    /** Returns whether there is no error. */
    bool has_value() const noexcept { return either_.index() == 0; }
    /** Same as has_value(). */
    explicit operator bool() const noexcept { return has_value(); }
    /** Returns the value. If there is none, the error is printed to stderr and the program ends with std::abort(), so
     * check first. */
    T &value() & { return *require(std::get_if<0>(&either_)); }
    /** As above. */
    const T &value() const & { return *require(std::get_if<0>(&either_)); }
    /** As above, but moves the value out. */
    T value() && { return std::move(value()); }  // no reference: `for (... : *runtime.send(x))`
    /** Same as value(). */
    T &operator*() & { return value(); }
    /** Same as value(). */
    const T &operator*() const & { return value(); }
    /** Same as value(). */
    T operator*() && { return std::move(*this).value(); }
    /** Same as value(). */
    T *operator->() { return &value(); }
    /** Same as value(). */
    const T *operator->() const { return &value(); }
    /** Returns the error. If there is none, the program ends with std::abort(). */
    const Error &error() const { return *require(std::get_if<1>(&either_)); }

  private:
    template <class P>
    P *require(P *pointer) const {
        if (pointer == nullptr) {
            if (const Error *const error = std::get_if<1>(&either_)) {
                std::fprintf(stderr, "%s: %s\n", error->status_name(), error->what());
            }
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
    /** Holds an error. */
    Result(Error error) : error_(std::move(error)) {}

    /** Returns whether there is no error. */
    bool has_value() const noexcept { return !error_.has_value(); }
    /** Same as has_value(). */
    explicit operator bool() const noexcept { return has_value(); }
    /** Returns the error. If there is none, the program ends with std::abort(). */
    const Error &error() const {
        if (!error_) {
            std::abort();
        }
        return *error_;
    }

  private:
    std::optional<Error> error_;
};

/** Return type of a function that can fail: T, or Result<T> if exceptions are off. */
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
template <class T>
using Returned = Result<T>;
#else
template <class T>
using Returned = T;
#endif

namespace detail {

// Reports an error: throws it, or returns it as the Result.
template <class T>
Returned<T> failed(Error error) {
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
    return error;
#else
    throw error;
#endif
}

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
// Throws the error of the latest C call, unless the process is exiting. Not inlined, to keep loops small.
#if defined(__GNUC__)
__attribute__((noinline, cold))
#endif
inline void fail_unless_exiting() {
    Error error = Error::last();
    if (!error.is_exiting()) {
        failed<void>(std::move(error));
    }
}
#endif

inline Returned<void> done(std::int32_t status) {
    if (status < 0) {
        return failed<void>(Error::last());
    }
    return Returned<void>();
}

// The error for a text with a NUL byte: C would silently ignore the rest.
inline std::optional<Error> check_text(const std::string &text, const char *name) {
    const std::size_t at = text.find('\0');
    if (at == std::string::npos) {
        return std::nullopt;
    }
    std::string message = std::string(name) + " has a NUL byte at position " + std::to_string(at) +
                          ", but a C string ends at its first NUL; escape it inside JSON strings";
    std::string json = R"({"status":-1,"name":"DYNAMO_ERROR_INVALID_ARGUMENT","message":")" +
                       message + R"(","layer":"core","retriable":false,"fatal":false})";
    return Error(DYNAMO_ERROR_INVALID_ARGUMENT, std::move(message), std::move(json));
}

inline std::string_view view(const char *text) noexcept {
    return text == nullptr ? std::string_view() : std::string_view(text);
}

// Whole milliseconds, rounded up: a wait is never shorter than requested. -1 is no limit in C.
template <class Rep, class Period>
std::int64_t milliseconds(std::chrono::duration<Rep, Period> duration) noexcept {
    const double exact = std::chrono::duration<double, std::milli>(duration).count();
    if (exact <= 0) {
        return 0;
    }
    return exact < 9e15 ? static_cast<std::int64_t>(std::ceil(exact)) : -1;  // also for NaN
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

// Copies a text that the caller owns into a string, and frees it. `length` is nullptr if the text ends at its NUL.
inline Returned<std::string> owned_text(char *given, const std::size_t *length = nullptr) {
    const std::unique_ptr<char, Free<char>> text(given);
    if (text == nullptr) {
        return failed<std::string>(Error::last());
    }
    return length == nullptr ? std::string(text.get()) : std::string(text.get(), *length);
}

}  // namespace detail

/** A timeout or deadline that never passes. */
inline constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

// ------------------------------------------------------------------------------------------- JSON

/**
 * Builds JSON text. Converts implicitly from bool, numbers, and texts (UTF-8); array() and object() combine other
 * values; raw() takes JSON text unchanged.
 */
class Json {
  public:
    /** null */
    Json(std::nullptr_t) : text_("null") {}
    /** A string; NULL becomes "". */
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
    /** JSON text, unchanged. It is not validated here: if it is not valid JSON (also NaN and infinity) or not UTF-8,
     * the library reports DYNAMO_ERROR_INVALID_JSON when it receives it. */
    static Json raw(std::string text) {
        Json json(nullptr);
        json.text_ = std::move(text);
        return json;
    }

    /** Appends a member to an object. If a key is added twice, the last value counts. */
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

    /** Returns the JSON text. */
    const std::string &text() const noexcept { return text_; }

  private:
    // Removes the last bracket, to append an element. A text without one becomes invalid JSON, which the library
    // reports.
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

/** Builds the configuration of a runtime. The default is the demo model; dynamo_config_schema() has all keys. */
class Config {
  public:
    /** Sets the engine: "mistralrs", "echo", "scripted", "module:Class", ... */
    Config &engine(std::string_view name) { return set("engine", name); }
    /** Sets the folder or file of the model. */
    Config &model(std::string_view path) { return set("model", path); }
    /** Sets one of the engine's own options. */
    Config &option(std::string_view key, const Json &value) {
        options_.add(key, value);
        return *this;
    }
    /** Sets the capacity of a request's stream in tokens, and whether a full stream fails the request instead of making
     * the engine wait. */
    Config &stream(std::size_t capacity, bool fail_when_full = false) {
        return set("stream", Json::object({{"capacity", capacity},
                                           {"when_full", fail_when_full ? "fail" : "block"}}));
    }
    /** Sets any key; the last value counts. */
    Config &set(std::string_view key, const Json &value) {
        if (key == "options") {
            options_ = value;
        } else {
            object_.add(key, value);
        }
        return *this;
    }
    /** Returns the configuration as JSON. */
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

/** The common part of Chat, Completion, and Embedding. */
template <class Body>
class RequestBody {
  public:
    /** Sets the name of the model, for runtimes with several. */
    Body &model(std::string_view name) { return set("model", name); }
    /** Sets the maximum number of tokens of the answer. */
    Body &max_tokens(std::uint64_t tokens) { return set("max_tokens", tokens); }
    /** Sets the sampling temperature; 0 is greedy. */
    Body &temperature(double value) { return set("temperature", value); }
    /** Samples from the most likely tokens whose probabilities add up to this value. */
    Body &top_p(double value) { return set("top_p", value); }
    /** Sets the seed of the sampler. */
    Body &seed(std::int64_t value) { return set("seed", value); }
    /** Sets the stop strings: texts that end the answer, and are not part of it. */
    Body &stop(const std::vector<std::string> &texts) { return set("stop", texts); }
    /** Sets the number of choices. */
    Body &n(std::uint32_t choices) { return set("n", choices); }
    /** Sets whether the answer streams (default), or arrives whole as one response. */
    Body &stream(bool value) { return set("stream", value); }
    /** Sets any key; the last value counts. */
    Body &set(std::string_view key, const Json &value) {
        object_.add(key, value);
        return static_cast<Body &>(*this);
    }
    /** Returns the body as JSON. */
    std::string json() const { return object_.text(); }

  protected:
    /** The keys set so far. */
    Json object_ = Json::raw("{}");
};

/** Builds a chat: an OpenAI body with "messages". */
class Chat : public RequestBody<Chat> {
  public:
    Chat() = default;
    /** Begins with a message of the user. */
    explicit Chat(std::string_view question) { user(question); }

    /** Adds a message with the role "system". */
    Chat &system(std::string_view content) { return message("system", content); }
    /** Adds a message of the user. */
    Chat &user(std::string_view content) { return message("user", content); }
    /** Adds a message of the model, from earlier in the chat. */
    Chat &assistant(std::string_view content) { return message("assistant", content); }
    /** Adds a message with any role; its content is a text, or OpenAI's array of parts. */
    Chat &message(std::string_view role, const Json &content) {
        return message(Json::object({{"role", role}, {"content", content}}));
    }
    /** Adds a message as a whole object, for keys such as "tool_call_id". */
    Chat &message(const Json &whole) {
        messages_.push(whole);
        return *this;
    }
    /** Sets any key; the last value counts. "messages" replaces all messages so far. */
    Chat &set(std::string_view key, const Json &value) {
        if (key == "messages") {
            messages_ = value;
            return *this;
        }
        return RequestBody::set(key, value);
    }
    /** Returns the body as JSON. */
    std::string json() const { return Json(object_).add("messages", messages_).text(); }

  private:
    Json messages_ = Json::raw("[]");
};

/** Builds a completion: an OpenAI body with "prompt". */
class Completion : public RequestBody<Completion> {
  public:
    /** A prompt, used unchanged. */
    explicit Completion(std::string_view prompt) { set("prompt", prompt); }
    /** A prompt of token ids. */
    explicit Completion(const std::vector<std::uint32_t> &token_ids) { set("prompt", token_ids); }
    /** As above. */
    explicit Completion(std::initializer_list<std::uint32_t> token_ids)
        : Completion(std::vector<std::uint32_t>(token_ids)) {}
};

/** Builds an embedding request: an OpenAI body with "input". */
class Embedding : public RequestBody<Embedding> {
  public:
    /** One text. */
    explicit Embedding(std::string_view input) { set("input", input); }
    /** Several texts; the vectors are in the same order. */
    explicit Embedding(const std::vector<std::string> &inputs) { set("input", inputs); }
    /** As above. */
    explicit Embedding(std::initializer_list<std::string> inputs)
        : Embedding(std::vector<std::string>(inputs)) {}
};

// --------------------------------------------------------------------------------------- response

/** A view of token ids: a contiguous range, convertible to std::span. */
class TokenIds {
  public:
    TokenIds() = default;
    /** Does not own the ids. */
    TokenIds(const std::uint32_t *data, std::size_t size) noexcept : data_(data), size_(size) {}

    /** Returns the first id; NULL if there is none. */
    const std::uint32_t *data() const noexcept { return data_; }
    /** Returns the number of ids. */
    std::size_t size() const noexcept { return size_; }
    /** Returns whether there are none. */
    bool empty() const noexcept { return size_ == 0; }
    /** Returns the first. */
    const std::uint32_t *begin() const noexcept { return data_; }
    /** Returns the position after the last. */
    const std::uint32_t *end() const noexcept { return data_ + size_; }
    /** Returns one of them; the index is not checked. */
    std::uint32_t operator[](std::size_t index) const noexcept { return data_[index]; }

  private:
    const std::uint32_t *data_ = nullptr;
    std::size_t size_ = 0;
};

/** A payload in a Response to a raw request. */
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
    /** Those of prompt_tokens that came from a prefix cache. */
    std::uint64_t cached_tokens = 0;
};

/** Timestamps of a request since it was sent; empty for what has not happened. */
struct Timing {
    /** The engine began to work on the request. Until then, it waited for a slot, or in the engine's own queue. */
    std::optional<std::chrono::microseconds> queue;
    /** The engine pushed the first part of the answer (TTFT). */
    std::optional<std::chrono::microseconds> first_token;
    /** The request ended. */
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

/** Everything that had arrived of one choice when it was received. With "stream": false it has the first choice, and
 * all of them in json(); the last response of a stream with "include_usage" has only usage(). Move-only. A response
 * that was moved from is empty: it has no text, no tokens, and no finish reason. */
class Response {
  public:
    Response() = default;
    /** Takes ownership of a C handle. */
    explicit Response(dynamo_response_t *owned) noexcept : handle_(owned) {}

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    dynamo_response_t *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    dynamo_response_t *release() noexcept { return handle_.release(); }

    /** Returns the text, UTF-8; it never splits a code point. */
    std::string_view text() const noexcept {
        std::size_t length = 0;
        const char *const text = dynamo_response_text(get(), &length);
        return text == nullptr ? std::string_view() : std::string_view(text, length);
    }
    /** Returns the token ids; empty if the engine provides none. */
    TokenIds token_ids() const noexcept {
        std::size_t count = 0;
        const std::uint32_t *const ids = dynamo_response_token_ids(get(), &count);
        return ids == nullptr ? TokenIds() : TokenIds(ids, count);
    }
    /** Returns the number of the choice, from 0. */
    std::uint32_t index() const noexcept { return dynamo_response_index(get()); }
    /** Returns "stop", "length", ... in the last response of a choice, otherwise "". */
    std::string_view finish_reason() const noexcept {
        return detail::view(dynamo_response_finish_reason(get()));
    }
    /** Returns the token counts: in the last response, if the engine counts, whatever "stream_options" says. */
    std::optional<Usage> usage() const noexcept {
        dynamo_usage_t counts{};
        counts.struct_size = sizeof counts;
        if (dynamo_response_usage(get(), &counts) != DYNAMO_OK) {
            return std::nullopt;
        }
        return Usage{counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens};
    }
    /** Returns the timestamps: only in the very last response. */
    std::optional<Timing> timing() const noexcept {
        dynamo_timing_t times{};
        times.struct_size = sizeof times;
        if (dynamo_response_timing(get(), &times) != DYNAMO_OK) {
            return std::nullopt;
        }
        return detail::timing(times);
    }
    /** Returns the number of payloads; 0 unless it was a raw request. */
    std::size_t item_count() const noexcept { return dynamo_response_item_count(get()); }
    /** Returns a payload, from 0. The bytes belong to this response. Errors: INVALID_ARGUMENT (no such payload). */
    Returned<Item> item(std::size_t index) const {
        dynamo_data_t data{};
        if (dynamo_response_item(get(), index, &data) != DYNAMO_OK) {
            return detail::failed<Item>(Error::last());
        }
        return Item{{static_cast<const char *>(data.bytes), data.length},
                    data.kind == DYNAMO_DATA_JSON};
    }
    /** Returns OpenAI's JSON, built at the first call. Errors: INVALID_HANDLE, OUT_OF_MEMORY. */
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

/** Result of Request::next(), and argument of a callback: a response, or why there is none. */
struct Received {
    /** DYNAMO_OK with a response; otherwise DYNAMO_PENDING, DYNAMO_END, or the error that ended the request. */
    std::int32_t status = DYNAMO_PENDING;
    /** Empty unless status is DYNAMO_OK. */
    Response response;

    /** Returns whether there is a response. */
    explicit operator bool() const noexcept { return status == DYNAMO_OK; }
    /** Returns whether nothing had arrived yet. */
    bool is_pending() const noexcept { return status == DYNAMO_PENDING; }
    /** Returns whether this was the last one: the end, or an error. */
    bool has_ended() const noexcept { return status != DYNAMO_OK && status != DYNAMO_PENDING; }
};

/** Result of Queue::next(): an event of one of its requests, or why there is none. */
struct Event {
    /** DYNAMO_OK with a response; in a terminal event, DYNAMO_END or the error that ended the request; without a
     * request, DYNAMO_PENDING (no event) or why there are no events. */
    std::int32_t status = DYNAMO_PENDING;
    /** Empty unless status is DYNAMO_OK. */
    Response response;
    /** The request; not owned. */
    dynamo_request_t *request = nullptr;
    /** As passed to Request::set_queue(). */
    void *user = nullptr;

    /** Returns whether there is a response. */
    explicit operator bool() const noexcept { return status == DYNAMO_OK; }
    /** Returns whether nothing had arrived yet. */
    bool is_pending() const noexcept { return status == DYNAMO_PENDING; }
    /** Returns whether this was the request's last event. */
    bool has_ended() const noexcept { return request != nullptr && status != DYNAMO_OK; }
};

/** A completion queue: one thread receives the events of many requests. Move-only. */
class Queue {
  public:
    Queue() = default;
    /** Takes ownership of a C handle. */
    explicit Queue(dynamo_queue_t *owned) noexcept : handle_(owned) {}
    /** Creates a queue. Errors: OUT_OF_MEMORY. */
    [[nodiscard]] static Returned<Queue> create() {
        dynamo_queue_t *const handle = dynamo_queue_create();
        if (handle == nullptr) {
            return detail::failed<Queue>(Error::last());
        }
        return Queue(handle);
    }

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    dynamo_queue_t *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    dynamo_queue_t *release() noexcept { return handle_.release(); }

    /** Waits for the next event. Never throws: the result has the status. Several threads may wait; see
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
    /** Waits without a limit. */
    Event next() const noexcept { return next(forever); }
    /** Does not wait. */
    Event poll() const noexcept { return next(std::chrono::milliseconds(0)); }

  private:
    std::unique_ptr<dynamo_queue_t, detail::DestroyQueue> handle_;
};

/** A request: one run, from its body to its terminal event. Move-only. Destroying it cancels it. */
class Request {
  public:
    Request() = default;
    /** Takes ownership of a C handle. */
    explicit Request(dynamo_request_t *owned) noexcept : handle_(owned) {}

    /** Creates a request from an OpenAI body in JSON. Errors: INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST. */
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
    /** Creates a raw request with a JSON text, for raw engines. Errors: INVALID_JSON. */
    [[nodiscard]] static Returned<Request> of_json(std::string_view json) {
        return of_data(DYNAMO_DATA_JSON, json);
    }
    /** Creates a raw request with any bytes, for raw engines. */
    [[nodiscard]] static Returned<Request> of_bytes(std::string_view bytes) {
        return of_data(DYNAMO_DATA_BYTES, bytes);
    }
    /** Creates a request from a Chat, Completion, or Embedding. */
    template <class Body, class = decltype(std::declval<const Body &>().json())>
    [[nodiscard]] static Returned<Request> create(const Body &body) {
        return create(body.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** Same as create(). */
    explicit Request(const std::string &json) : Request(create(json)) {}
    /** Same as create(). */
    template <class Body, class = decltype(std::declval<const Body &>().json())>
    explicit Request(const Body &body) : Request(create(body)) {}
#endif

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    dynamo_request_t *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    dynamo_request_t *release() noexcept { return handle_.release(); }

    /** Sets the deadlines for the first token and for the end, counted from sending. Call it before sending. Errors:
     * INVALID_ARGUMENT (0), INVALID_STATE (already sent). */
    template <class First, class Total = std::chrono::milliseconds>
    Returned<void> set_deadlines(First first_token, Total total = forever) {
        return detail::done(dynamo_request_set_deadlines(get(), detail::milliseconds(first_token),
                                                         detail::milliseconds(total)));
    }

    /**
     * Delivers events to a function `void(Received)` on the library's callback thread, instead of next(). Call this
     * before sending. The function is copied or moved to the heap, once, and destroyed after the terminal event. If it
     * throws, the request is cancelled, and the exception is logged. Errors: INVALID_STATE (already sent, or has a
     * callback or a queue).
     */
    template <class Function>
    Returned<void> set_callback(Function &&function) {
        using Kept = std::decay_t<Function>;
        auto kept = std::make_unique<Kept>(std::forward<Function>(function));
        const std::int32_t status = dynamo_request_set_callback(
            get(),
            [](void *user, dynamo_request_t *, dynamo_response_t *response, std::int32_t outcome) {
                Received received{outcome, Response(response)};
                (*static_cast<Kept *>(user))(std::move(received));
            },
            kept.get(), [](void *user) { delete static_cast<Kept *>(user); });
        if (status == DYNAMO_OK) {
            kept.release();
        }
        return detail::done(status);
    }

    /** Delivers events to a queue, with `user`, instead of next(). Call this before sending. Errors: INVALID_HANDLE,
     * INVALID_STATE (already sent, or has a queue or a callback). */
    Returned<void> set_queue(const Queue &queue, void *user = nullptr) {
        return detail::done(dynamo_request_set_queue(get(), queue.get(), user));
    }

    /** Waits for more of the answer. Never throws: the result has the status, and error() the error. */
    template <class Rep, class Period>
    Received next(std::chrono::duration<Rep, Period> timeout) const noexcept {
        dynamo_response_t *response = nullptr;
        const std::int32_t status =
            dynamo_request_next(get(), detail::milliseconds(timeout), &response);
        return {status, Response(response)};
    }
    /** Waits without a limit. */
    Received next() const noexcept { return next(forever); }
    /** Does not wait. */
    Received poll() const noexcept { return next(std::chrono::milliseconds(0)); }

    /** Waits for more of the answer. Returns an empty Response after the end. Errors: the error that ended the request;
     * INVALID_HANDLE, INVALID_STATE (not sent, or has a callback or a queue). With exceptions, the exit of the process
     * is an end, not an error: an exception that escapes from a thread would terminate the program. */
    Returned<Response> recv() const {
        Received received = next();
        if (received.status < 0) {
            Error error = Error::last();
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
            if (error.is_exiting()) {
                return Response();
            }
#endif
            return detail::failed<Response>(std::move(error));
        }
        return std::move(received.response);
    }

    /** Cancels the request: its terminal event is then DYNAMO_ERROR_CANCELLED. Any thread may call this at any time,
     * also repeatedly. */
    void cancel() const noexcept { dynamo_request_cancel(get()); }

    /** Returns a file descriptor for poll(2) and event loops, which is readable while poll() would return something. It
     * is valid as long as the request. Errors: INVALID_HANDLE, INVALID_STATE, SYSTEM, NOT_SUPPORTED. */
    Returned<int> fd() const {
        const int descriptor = dynamo_request_fd(get());
        if (descriptor < 0) {
            return detail::failed<int>(Error::last());
        }
        return descriptor;
    }

    /** Returns DYNAMO_PENDING before the end, then DYNAMO_END or the error that ended the request. */
    std::int32_t status() const noexcept { return dynamo_request_status(get()); }
    /** Returns the error that ended the request, if any. */
    std::optional<Error> error() const {
        const char *const message = dynamo_request_error(get());
        if (message == nullptr) {
            return std::nullopt;
        }
        return Error(status(), message, dynamo_request_error_json(get()));
    }
    /** Returns the timestamps so far. They are empty without a handle. */
    Timing timing() const noexcept {
        dynamo_timing_t times{};
        times.struct_size = sizeof times;
        return dynamo_request_timing(get(), &times) == DYNAMO_OK ? detail::timing(times) : Timing();
    }
    /** Returns the id: "req-" and 16 hexadecimal digits. It is valid as long as the request; "" without a handle. */
    std::string_view id() const noexcept { return detail::view(dynamo_request_id(get())); }

    /**
     * The responses as a range: `for (auto &response : request)`; an input_range in C++20. begin() and each step wait
     * for the next response; a step frees the previous one. With exceptions, the step that encounters an error throws
     * it, unless the process is exiting. Without exceptions, the loop ends, and status() is DYNAMO_END only after the
     * whole answer.
     */
    class Iterator {
      public:
        /** @cond */
        // Move-only, so it is a C++20 iterator but not a C++17 one.
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
                detail::fail_unless_exiting();
            }
#endif
            response_ = Response(next);
            return *this;
        }
        void operator++(int) { ++*this; }
        /** @endcond */

        /** The sentinel. */
        struct End {};
        friend bool operator==(const Iterator &it, End) noexcept { return !it.response_; }
        friend bool operator!=(const Iterator &it, End) noexcept { return bool(it.response_); }
        friend bool operator==(End, const Iterator &it) noexcept { return !it.response_; }
        friend bool operator!=(End, const Iterator &it) noexcept { return bool(it.response_); }

      private:
        dynamo_request_t *request_ = nullptr;  // still valid if the Request is moved
        mutable Response response_;            // owned by the iterator, as it is by a caller in C
    };
    /** Waits for the first response. */
    Iterator begin() const { return Iterator(get()); }
    /** Returns the sentinel. */
    Iterator::End end() const noexcept { return {}; }

#if defined(DYNAMO_LLM_HAS_STOP_TOKEN)
    /** Cancels a request. Safe after its end, and after it was destroyed. */
    class Canceller {
      public:
        /** Does not own the request. */
        explicit Canceller(dynamo_request_t *request) noexcept : request_(request) {}
        /** Cancels the request. */
        void operator()() const noexcept { dynamo_request_cancel(request_); }

      private:
        dynamo_request_t *request_;
    };
    /** Cancels the request when a stop is requested, as long as the result exists. */
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

/** An engine with a loaded model, ready for requests. Move-only. If it is destroyed, requests in flight continue to
 * their end. */
class Runtime {
  public:
    /**
     * Starts an engine, and waits until its model is loaded. Errors: those of dynamo_runtime_create();
     * VERSION_MISMATCH if this header and the library do not match.
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
    /** As above, from a Config. */
    [[nodiscard]] static Returned<Runtime> create(const Config &config) {
        return create(config.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    Runtime() : Runtime(create()) {}
    /** Same as create(). */
    explicit Runtime(const std::string &config_json) : Runtime(create(config_json)) {}
    /** Same as create(). */
    explicit Runtime(const Config &config) : Runtime(create(config)) {}
#endif
    /** Takes ownership of a C handle. */
    explicit Runtime(dynamo_runtime_t *owned) noexcept : handle_(owned) {}
    /** Makes an empty object, to be assigned to later. */
    explicit Runtime(std::nullptr_t) noexcept {}

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    dynamo_runtime_t *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    dynamo_runtime_t *release() noexcept { return handle_.release(); }

    /** Sends a request. Errors: those of dynamo_request_send(). After an error it may be sent again. */
    Returned<void> send(Request &request) const {
        return detail::done(dynamo_request_send(get(), request.get()));
    }
    /** Creates a request from a Chat, Completion, or Embedding, or from JSON, and sends it. */
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

    /** Accepts no more requests, waits for those in flight, cancels the remaining ones, and stops the engine. Errors:
     * those of dynamo_runtime_shutdown(), such as DEADLINE_EXCEEDED if some were cancelled or the engine has not
     * stopped yet. */
    template <class Rep, class Period>
    Returned<void> shutdown(std::chrono::duration<Rep, Period> timeout) const {
        return detail::done(dynamo_runtime_shutdown(get(), detail::milliseconds(timeout)));
    }

    /** Returns counters as JSON, see dynamo_runtime_statistics(). */
    Returned<std::string> statistics() const {
        return detail::owned_text(dynamo_runtime_statistics(get()));
    }
    /** Returns the models as JSON, see dynamo_runtime_models(). */
    Returned<std::string> models() const {
        return detail::owned_text(dynamo_runtime_models(get()));
    }
    /** Returns metrics in Prometheus' text format. */
    Returned<std::string> metrics() const {
        return detail::owned_text(dynamo_runtime_metrics(get()));
    }

  private:
    std::unique_ptr<dynamo_runtime_t, detail::DestroyRuntime> handle_;
};

// -------------------------------------------------------------------------------------- tokenizer

/** Converts a stream of token ids into a stream of text. Tokenizer::detokenizer() creates it. It keeps its tokenizer
 * alive. Move-only. */
class Detokenizer {
  public:
    Detokenizer() = default;
    /** Makes an empty object, to be assigned to later. */
    explicit Detokenizer(std::nullptr_t) noexcept {}
    /** Takes ownership of a C handle. */
    explicit Detokenizer(dynamo_detokenizer_t *owned) noexcept : handle_(owned) {}

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    dynamo_detokenizer_t *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    dynamo_detokenizer_t *release() noexcept { return handle_.release(); }

    /** Adds any number of token ids, and returns the text that they add, "" if there is none yet. It never splits a
     * code point. Waits until it is done. Errors: those of dynamo_detokenizer_add(); then none of the ids was added.
     * */
    Returned<std::string> add(TokenIds ids) const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_detokenizer_add(get(), ids.data(), ids.size(), &length),
                                  &length);
    }
    /** As above. */
    Returned<std::string> add(const std::vector<std::uint32_t> &ids) const {
        return add(TokenIds(ids.data(), ids.size()));
    }
    /** As above. */
    Returned<std::string> add(std::initializer_list<std::uint32_t> ids) const {
        return add(TokenIds(ids.begin(), ids.size()));
    }
    /** As above, for one token. */
    Returned<std::string> add(std::uint32_t id) const { return add(TokenIds(&id, 1)); }
    /** Ends the text, and returns what was held back. Another text may then begin. Waits until it is done. Errors:
     * those of dynamo_detokenizer_finish(). */
    Returned<std::string> finish() const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_detokenizer_finish(get(), &length), &length);
    }

  private:
    std::unique_ptr<dynamo_detokenizer_t, detail::DestroyDetokenizer> handle_;
};

/** A model's tokenizer and chat template, without the model. Move-only. Its results are copied into strings and vectors
 * of C++. */
class Tokenizer {
  public:
    /**
     * Loads the tokenizer of a model, and waits until it is loaded; "{}" is that of the demo model. Errors: those of
     * dynamo_tokenizer_create(); VERSION_MISMATCH if this header and the library do not match.
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
    /** As above, from a Config: `Config().model("path")`. */
    [[nodiscard]] static Returned<Tokenizer> create(const Config &config) {
        return create(config.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    Tokenizer() : Tokenizer(create()) {}
    /** Same as create(). */
    explicit Tokenizer(const std::string &config_json) : Tokenizer(create(config_json)) {}
    /** Same as create(). */
    explicit Tokenizer(const Config &config) : Tokenizer(create(config)) {}
#endif
    /** Takes ownership of a C handle. */
    explicit Tokenizer(dynamo_tokenizer_t *owned) noexcept : handle_(owned) {}
    /** Makes an empty object, to be assigned to later. */
    explicit Tokenizer(std::nullptr_t) noexcept {}

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    dynamo_tokenizer_t *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    dynamo_tokenizer_t *release() noexcept { return handle_.release(); }

    /** Converts a text into token ids. For a prompt of apply_template(), do not add special tokens. Waits until it is
     * done. Errors: those of dynamo_tokenizer_encode(). */
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
    /** Converts token ids into a text. Waits until it is done. Errors: those of dynamo_tokenizer_decode(). */
    Returned<std::string> decode(TokenIds ids, bool skip_special_tokens = true) const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_tokenizer_decode(get(), ids.data(), ids.size(),
                                                          skip_special_tokens ? 1 : 0, &length),
                                  &length);
    }
    /** As above. */
    Returned<std::string> decode(const std::vector<std::uint32_t> &ids,
                                 bool skip_special_tokens = true) const {
        return decode(TokenIds(ids.data(), ids.size()), skip_special_tokens);
    }
    /** As above. */
    Returned<std::string> decode(std::initializer_list<std::uint32_t> ids,
                                 bool skip_special_tokens = true) const {
        return decode(TokenIds(ids.begin(), ids.size()), skip_special_tokens);
    }
    /** Renders a chat into a prompt with the model's chat template. Waits until it is done. Errors: those of
     * dynamo_tokenizer_apply_template(). */
    Returned<std::string> apply_template(const std::string &chat_json) const {
        if (auto error = detail::check_text(chat_json, "chat_json")) {
            return detail::failed<std::string>(std::move(*error));
        }
        std::size_t length = 0;
        return detail::owned_text(
            dynamo_tokenizer_apply_template(get(), chat_json.c_str(), &length), &length);
    }
    /** As above, from a Chat. */
    Returned<std::string> apply_template(const Chat &chat) const {
        return apply_template(chat.json());
    }
    /** Returns the properties as JSON, see dynamo_tokenizer_info(), also for errors. */
    Returned<std::string> info() const { return detail::owned_text(dynamo_tokenizer_info(get())); }

    /** Creates a detokenizer, for a text that arrives token by token. Errors: those of dynamo_detokenizer_create(). */
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
 * Sets the receiver of log records for the whole process: a function `void(int32_t level, std::string_view logger,
 * std::string_view message)`, called from any thread, several at the same time. It should not throw: if it does, the
 * record and the exception go to stderr. It is copied or moved to the heap, once, and destroyed after another one
 * was set.
 */
template <class Function>
Returned<void> set_log(dynamo_log_level_t level, Function &&function) {
    using Kept = std::decay_t<Function>;
    auto kept = std::make_unique<Kept>(std::forward<Function>(function));
    const std::int32_t status = dynamo_log_set_callback(
        level,
        [](void *user, std::int32_t record_level, const char *logger, const char *message) {
            (*static_cast<Kept *>(user))(record_level, detail::view(logger), detail::view(message));
        },
        kept.get(), [](void *user) { delete static_cast<Kept *>(user); });
    if (status == DYNAMO_OK) {
        kept.release();
    }
    return detail::done(status);
}

/** Sends log records of at least a level to stderr again; DYNAMO_LOG_OFF for none. */
inline Returned<void> set_log(dynamo_log_level_t level) {
    return detail::done(dynamo_log_set_callback(level, nullptr, nullptr, nullptr));
}

// ------------------------------------------------------------------------------------- coroutines

#if defined(DYNAMO_LLM_HAS_COROUTINES)

/** Resumes a coroutine at once, on the library's callback thread: for coroutines that only pass results on. While one
 * runs, the others wait. */
struct InlineExecutor {
    /** Resumes the coroutine. */
    void operator()(std::coroutine_handle<> coroutine) const { coroutine.resume(); }
};

/**
 * A request for coroutines: `while (auto received = co_await request.next())`.
 *
 * The executor decides where the coroutine continues: it is a function `void(std::coroutine_handle<>)` that arranges
 * for resume() to be called, in the program's own event loop or thread pool. It runs on the library's callback
 * thread, so it should only post. If it throws, the exception is logged and the request is cancelled, but nothing
 * resumes the coroutine: it is lost. No thread waits, and the stream stays bounded. The executor is stored on the
 * heap, once; a step allocates nothing.
 *
 * A waiting coroutine is resumed exactly once, whatever happens, also when the request is cancelled or the
 * AsyncRequest destroyed (with DYNAMO_ERROR_CANCELLED). The exception is a coroutine that is itself destroyed: once
 * destroy() has returned, the executor is not called for it any more (the program must drop a resumption that the
 * executor received before), and the next coroutine misses nothing. destroy() may have to wait for a call of the
 * executor, so do not hold a lock that the executor takes.
 *
 * Only one coroutine at a time may wait; a second one gets DYNAMO_ERROR_INVALID_STATE. Nothing else may receive from
 * the request.
 */
template <class Executor>
class AsyncRequest {
  public:
    class Next;

    /** @param request  must have been sent, and have no callback and no queue */
    AsyncRequest(Request request, Executor executor)
        : state_(std::make_shared<State>(request.get(), std::move(executor))),
          request_(std::move(request)) {}

    /** Returns the request, to cancel it or get its state. */
    const Request &request() const noexcept { return request_; }

    /** Returns an awaitable whose result is a Received that is never pending. It does not throw. */
    [[nodiscard]] Next next() const noexcept { return Next(state_); }

  private:
    // Shared with the library's callback thread; lives as long as either uses it.
    struct State : std::enable_shared_from_this<State> {
        State(dynamo_request_t *of, Executor to) : request(of), executor(std::move(to)) {}

        // All require `mutex`. wait() returns whether to suspend; if not, `received` has the reason.
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
        static void wake(void *user) {
            const std::shared_ptr<State> state = static_cast<State *>(user)->shared_from_this();
            const std::lock_guard<std::recursive_mutex> lock(state->mutex);
            state->asked = nullptr;
            if (state->waiting == nullptr) {
                return;  // the coroutine was destroyed; the next one polls
            }
            state->poll();
            if (state->received.status == DYNAMO_ERROR_INVALID_HANDLE) {
                state->received.status =
                    DYNAMO_ERROR_CANCELLED;  // as a waiting thread gets it in C
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
        // Recursive, for executors that resume at once. Held while the executor is called, so that after a coroutine
        // was destroyed it is not resumed.
        std::recursive_mutex mutex;
        Next *waiting = nullptr;       // suspended, or woken and not resumed yet
        Received received;             // what to resume with; pending if there is nothing
        std::shared_ptr<State> asked;  // this object, while a call of wake() is outstanding
    };

  public:
    /** The awaitable of next(), to be awaited at once, by one coroutine. */
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
        // Not inlined: once the mutex is released the coroutine may run and end on another thread, and some compilers
        // keep the variables of an inlined function in its frame.
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

/** Lets AsyncRequest(std::move(request), executor) deduce the type of the executor. */
template <class Executor>
AsyncRequest(Request, Executor) -> AsyncRequest<Executor>;

#endif  // DYNAMO_LLM_HAS_COROUTINES

DYNAMO_LLM_END

#endif  // DYNAMO_LLM_HPP
