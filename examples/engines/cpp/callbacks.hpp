// Lets a class implement an engine: turns the class into the struct of callbacks that dynamo_llm/engine.h requires,
// exceptions into errors, and streams into objects that always end.
#ifndef CALLBACKS_HPP
#define CALLBACKS_HPP

#include <dynamo_llm/engine.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

// An error with a status. Any other exception of an engine becomes DYNAMO_ERROR_ENGINE_FAILED.
class Failure : public std::runtime_error {
  public:
    Failure(std::int32_t status, const std::string &message)
        : std::runtime_error(message), status_(status) {}

    // Returns the error of the last C call in this thread.
    static Failure last() { return {dynamo_last_status(), dynamo_last_error()}; }

    std::int32_t status() const noexcept { return status_; }

  private:
    std::int32_t status_;
};

// An accepted stream. If it is destroyed before its end, it fails, so that no caller waits forever.
class Stream {
  public:
    explicit Stream(dynamo_stream_t *taken) noexcept : handle_(taken) {}
    Stream(Stream &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Stream &operator=(Stream &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Stream() {
        if (handle_ != nullptr) {
            dynamo_stream_fail(handle_, DYNAMO_ERROR_ENGINE_FAILED,
                               "the engine dropped the request", nullptr);
        }
    }

    dynamo_stream_t *get() const noexcept { return handle_; }
    void finish(const char *reason, const dynamo_usage_t &usage) noexcept {
        dynamo_stream_finish(std::exchange(handle_, nullptr), reason, &usage);
    }
    void fail(const Failure &failure) noexcept {
        dynamo_stream_fail(std::exchange(handle_, nullptr), failure.status(), failure.what(),
                           nullptr);
    }

  private:
    dynamo_stream_t *handle_;
};

// Runs a function of the engine and converts exceptions to a status, since they must not propagate through C.
template <class Function>
std::int32_t guarded(Function &&function) noexcept {
    try {
        function();
        return DYNAMO_OK;
    } catch (const Failure &failure) {
        return dynamo_engine_error(failure.status(), failure.what(), nullptr);
    } catch (const std::bad_alloc &) {
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "no memory is left", nullptr);
    } catch (const std::exception &error) {
        return dynamo_engine_error(DYNAMO_ERROR_ENGINE_FAILED, error.what(), nullptr);
    }
}

// The struct for a class with
//   Engine(User *user, const char *config_json)
//   void generate(dynamo_stream_t *stream, const char *request_json)   takes the stream, or throws
//   void cancel(dynamo_stream_t *) noexcept, void on_writable(dynamo_stream_t *) noexcept
//   const char *describe() const noexcept
// and a destructor that stops it.
template <class Engine, class User>
dynamo_engine_t callbacks_of(dynamo_engine_kind_t kind) {
    dynamo_engine_t callbacks{};
    callbacks.struct_size = sizeof callbacks;
    callbacks.start = [](void *user, const char *config_json, void **instance) {
        return guarded([&] {
            *instance = std::make_unique<Engine>(static_cast<User *>(user), config_json).release();
        });
    };
    callbacks.generate = [](void *instance, dynamo_stream_t *stream, const char *,
                            const char *request_json) {
        return guarded([&] { static_cast<Engine *>(instance)->generate(stream, request_json); });
    };
    callbacks.cancel = [](void *instance, dynamo_stream_t *stream) {
        static_cast<Engine *>(instance)->cancel(stream);
    };
    callbacks.on_writable = [](void *instance, dynamo_stream_t *stream) {
        static_cast<Engine *>(instance)->on_writable(stream);
    };
    callbacks.stop = [](void *instance) { delete static_cast<Engine *>(instance); };
    callbacks.kind = kind;
    callbacks.describe = [](void *instance) -> const char * {
        return static_cast<Engine *>(instance)->describe();
    };
    return callbacks;
}

#endif
