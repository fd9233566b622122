// SPDX-License-Identifier: Apache-2.0
// Binds the creation of a runtime, which the Python API waits for in steps, so that Ctrl-C and cancelled tasks end it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <chrono>
#include <cstdint>
#include <dynamo_llm.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "python/bindings.hpp"
#include "python/gil.hpp"
#include "python/held.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dynamo::python {
namespace {

using dynamo_llm::Progress;

// Reports that Python has not taken yet. The library's callback thread, which adds them, must not take the GIL.
class Reports {
  public:
    void add(const Progress &progress) {
        const std::lock_guard lock(mutex_);
        const bool replaces =
            !reports_.empty() &&
            (reports_.size() == max_pending ||
             (reports_.back().phase == progress.phase && reports_.back().model == progress.model));
        if (replaces) {
            reports_.pop_back();
        }
        reports_.push_back(progress);
    }

    std::vector<Progress> take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(reports_, {});
    }

  private:
    static constexpr std::size_t max_pending = 16;
    std::mutex mutex_;
    std::vector<Progress> reports_;
};

class Creation {
  public:
    explicit Creation(const std::string &config_json)
        : creation_(dynamo_llm::Runtime::create_async(
              config_json,
              [reports = reports_](const Progress &progress) { reports->add(progress); })) {}
    Creation(const Creation &) = delete;
    // An engine may need the GIL, if the runtime that nobody took is destroyed here.
    ~Creation() {
        const Released released;
        creation_ = dynamo_llm::Creation(nullptr);
    }

    bool wait(std::int64_t milliseconds) const {
        if (host::is_loop_thread()) {
            char why[512];
            host::check_wait("dynamo_runtime_create()", 0, why, sizeof why);
            dynamo_engine_error(DYNAMO_ERROR_INVALID_STATE, why, nullptr);
            throw dynamo_llm::Error::last();
        }
        return creation_.wait_for(std::chrono::milliseconds(milliseconds));
    }
    std::unique_ptr<Held<dynamo_llm::Runtime>> result() const {
        return std::make_unique<Held<dynamo_llm::Runtime>>(creation_.wait());
    }
    void cancel() const { creation_.cancel(); }

    nb::list take() const {
        nb::list list;
        for (const Progress &progress : reports_->take()) {
            list.append(nb::make_tuple(
                progress.phase, progress.model, progress.bytes_done, progress.bytes_total,
                progress.fraction ? nb::object(nb::float_(*progress.fraction)) : nb::none()));
        }
        return list;
    }

  private:
    const std::shared_ptr<Reports> reports_ = std::make_shared<Reports>();
    dynamo_llm::Creation creation_;
};

}  // namespace

void bind_creation(nb::module_ &m) {
    nb::class_<Creation>(m, "Creation")
        .def(nb::init<const std::string &>(), "config_json"_a, without_gil)
        .def("wait", &Creation::wait, "milliseconds"_a, without_gil,
             "Waits for the end. Returns whether the creation has ended.")
        .def("take", &Creation::take,
             nb::sig("def take(self) -> list[tuple[str, str, int, int, float | None]]"),
             "Returns the reports since the last call: (phase, model, bytes_done, bytes_total, "
             "fraction).")
        .def("result", &Creation::result, without_gil,
             "Returns the runtime, once, or raises the error.")
        .def("cancel", &Creation::cancel, without_gil,
             "Cancels the creation. Any thread may call this at any time.");
}

}  // namespace dynamo::python
