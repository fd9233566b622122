// SPDX-License-Identifier: Apache-2.0
// An error with its story: what travels from wherever something failed to whoever asked.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include "dynamo_llm.h"

namespace dynamo {

// Fields that do not apply are empty.
struct Error {
    std::int32_t status = DYNAMO_OK;
    std::string message;
    const char *layer = "core";  // "core", "embed" or "engine"; always a literal
    std::string engine;
    std::string request_id;
    std::string detail;  // text of a JSON object that is merged into the error's JSON

    // The object that dynamo_last_error_json() documents.
    std::string json() const;
};

// How an Error travels inside the library. It never crosses the C boundary.
class Failure : public std::exception {
  public:
    explicit Failure(Error error) : error_(std::move(error)) {}
    Failure(std::int32_t status, std::string message, const char *layer = "core") {
        error_.status = status;
        error_.message = std::move(message);
        error_.layer = layer;
    }
    const char *what() const noexcept override { return error_.message.c_str(); }
    const Error &error() const noexcept { return error_; }

  private:
    Error error_;
};

const char *status_name(std::int32_t status) noexcept;

// The status that a name in a script or in Python stands for; 0 if there is none.
std::int32_t status_of_name(const std::string &name) noexcept;

// This thread's last error.
namespace last_error {
void set(std::int32_t status) noexcept;  // no message: success, END, PENDING
void set(const Error &error) noexcept;   // keeps the status even if memory is out
void set_out_of_memory() noexcept;
std::int32_t status() noexcept;
const char *message() noexcept;
const char *json() noexcept;
Error copy();
}  // namespace last_error

}  // namespace dynamo
