// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base.hpp"

DYNAMO_LLM_BEGIN

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

// Makes a call whose texts were checked, or reports the error of the check.
template <class T, class Call>
Returned<T> checked(std::optional<Error> error, Call call) {
    if (error) {
        return failed<T>(std::move(*error));
    }
    return call();
}

inline std::string_view view(const char *text) noexcept {
    return text == nullptr ? std::string_view() : std::string_view(text);
}

}  // namespace detail

DYNAMO_LLM_END
