// SPDX-License-Identifier: Apache-2.0
// Errors with their details, and the last error of each thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include "dynamo_llm.h"

namespace dynamo {

// Fields that do not apply are empty.
struct Error {
    std::int32_t status = DYNAMO_OK;
    std::string message = {};
    const char *layer = "core";  // "core", "embed" or "engine"; always a literal
    std::string engine = {};
    std::string request_id = {};
    std::string detail = {};  // a JSON object that is merged into the error's JSON

    // The object that dynamo_last_error_json() documents.
    std::string json() const;
};

// An error whose message is made by a function. Without memory for the message, the error has only its status.
template <class MakeMessage>
Error make_error(std::int32_t status, MakeMessage make_message) noexcept {
    try {
        return {.status = status, .message = make_message()};
    } catch (const std::exception &) {
        return {.status = status};
    }
}

// The exception that carries an Error inside the library. It never crosses the C boundary.
class Failure : public std::exception {
  public:
    explicit Failure(Error error) : error_(std::move(error)) {}
    Failure(std::int32_t status, std::string message, const char *layer = "core")
        : error_{.status = status, .message = std::move(message), .layer = layer} {
        // The message may quote a JSON string with a NUL, which would truncate it in C.
        std::replace(error_.message.begin(), error_.message.end(), '\0', ' ');
    }
    const char *what() const noexcept override { return error_.message.c_str(); }
    const Error &error() const noexcept { return error_; }
    // Returns the same failure with this text before its message.
    Failure with_context(const std::string &text) const {
        Failure failure = *this;
        failure.error_.message.insert(0, text);
        return failure;
    }

  private:
    Error error_;
};

// Throws a Failure with INVALID_ARGUMENT or INVALID_CONFIG.
[[noreturn]] void reject_argument(const std::string &message);
[[noreturn]] void reject_config(const std::string &message);

const char *status_name(std::int32_t status) noexcept;

// Returns the status for a name, with or without "DYNAMO_ERROR_"; 0 for an unknown name.
std::int32_t status_of_name(const std::string &name) noexcept;

// The last error of this thread.
namespace last_error {
void set(std::int32_t status) noexcept;  // without a message: success, END, PENDING
void set(const Error &error) noexcept;   // keeps the status even without memory
void set_out_of_memory() noexcept;
std::int32_t status() noexcept;
const char *message() noexcept;
const char *json() noexcept;
Error copy();
}  // namespace last_error

}  // namespace dynamo
