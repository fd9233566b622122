// A step-level engine with its own thread: continuous batching. Each step generates one token for every running
// sequence, or reads a part of its prompt, and then pushes all tokens of the step at once. A new request joins the next
// step, a finished one frees its slot immediately, and one whose reader is slow skips steps.
#ifndef ENGINE_HPP
#define ENGINE_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <dynamo_llm.hpp>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../babble.h"
#include "callbacks.hpp"

// Statistics of an instance, complete after it has stopped.
struct Report {
    unsigned long steps = 0;
    std::vector<unsigned long> of_size;  // of_size[n]: number of steps with n tokens
};

class StepEngine {
  public:
    StepEngine(Report *report, const char *config_json) : report_(report) {
        read_options(config_json);
        description_ = R"({"context_length": )" + std::to_string(context_length_) +
                       R"(, "capabilities": ["chat", "completion", "seed"]})";
        thread_ = std::thread([this] { run(); });
    }
    StepEngine(const StepEngine &) = delete;
    StepEngine &operator=(const StepEngine &) = delete;
    // No request is in flight when the engine stops, so no sequences are left.
    ~StepEngine() {
        {
            const std::lock_guard lock(mutex_);
            is_stopping_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

    void generate(dynamo_stream_t *stream, const char *request_json) {
        auto sequence = std::make_unique<Sequence>();
        if (babble_read(&sequence->answer, request_json, 0, context_length_) != DYNAMO_OK) {
            throw Failure::last();
        }
        sequence->prompt_left = sequence->answer.prompt_tokens;
        const std::lock_guard lock(mutex_);
        waiting_.push_back(std::move(sequence));
        waiting_.back()->stream = Stream(stream);  // accepts it: nothing below throws
        changed_.notify_one();
    }

    // The step thread ends a running sequence before its next step; a waiting sequence is ended here.
    void cancel(dynamo_stream_t *stream) noexcept {
        std::unique_ptr<Sequence> out;
        {
            const std::lock_guard lock(mutex_);
            const auto found = find(waiting_, stream);
            if (found != waiting_.end()) {
                out = std::move(*found);
                waiting_.erase(found);
            } else if (const auto runs = find(running_, stream); runs != running_.end()) {
                (*runs)->is_cancelled = true;
            }
        }
        changed_.notify_one();
        if (out != nullptr) {
            out->finish();
        }
    }

    void on_writable(dynamo_stream_t *stream) noexcept {
        {
            const std::lock_guard lock(mutex_);
            if (const auto runs = find(running_, stream); runs != running_.end()) {
                (*runs)->is_writable = true;
            }
        }
        changed_.notify_one();
    }

    const char *describe() const noexcept { return description_.c_str(); }

  private:
    // One request. Only the step thread uses and frees running sequences, so it needs no lock for that.
    struct Sequence {
        Sequence() = default;
        Sequence(const Sequence &) = delete;
        Sequence &operator=(const Sequence &) = delete;
        ~Sequence() { babble_free(&answer); }

        void finish() noexcept { stream.finish(answer.finish, babble_usage(&answer)); }

        Stream stream{nullptr};
        babble_t answer{};
        std::size_t prompt_left = 0;  // prompt tokens that are not read yet
        bool has_chunk = false;       // the stream has not accepted the last token yet
        // The following require the lock.
        bool is_cancelled = false;
        bool is_full = false;      // the last push returned DYNAMO_PENDING
        bool is_writable = false;  // on_writable() was called since then
    };
    using Sequences = std::deque<std::unique_ptr<Sequence>>;

    static Sequences::iterator find(Sequences &in, const dynamo_stream_t *stream) {
        return std::find_if(in.begin(), in.end(),
                            [&](const auto &one) { return one->stream.get() == stream; });
    }

    void read_options(const char *config_json) {
        struct Option {
            const char *name;
            std::size_t *value;
            std::size_t least;
            std::size_t most;
        };
        const std::array options = {Option{"max_running", &max_running_, 1, 1024},
                                    Option{"prefill_tokens", &prefill_tokens_, 1, 1000000},
                                    Option{"step_us", &step_us_, 0, 10000000},
                                    Option{"context_length", &context_length_, 2, 1000000000}};
        const dynamo_llm::ParsedJson config(config_json);
        for (std::size_t i = 0; i < config.count("/options"); ++i) {
            const std::string key(config.name("/options", i));
            const auto *const found = std::find_if(
                options.begin(), options.end(), [&](const Option &one) { return key == one.name; });
            if (found == options.end()) {
                throw Failure(DYNAMO_ERROR_INVALID_CONFIG,
                              "\"options\" has no key \"" + key +
                                  "\"; there are \"max_running\", \"prefill_tokens\", "
                                  "\"step_us\" and \"context_length\"");
            }
            const std::int64_t number = config.integer("/options/" + key, -1);
            if (number < static_cast<std::int64_t>(found->least) ||
                number > static_cast<std::int64_t>(found->most)) {
                throw Failure(DYNAMO_ERROR_INVALID_CONFIG,
                              "\"options." + key + "\" must be an integer from " +
                                  std::to_string(found->least) + " to " +
                                  std::to_string(found->most));
            }
            *found->value = static_cast<std::size_t>(number);
        }
    }

    // ------------------------------------------------------------------------------ the step loop

    // Requires the lock.
    bool has_work() const {
        return (!waiting_.empty() && running_.size() < max_running_) ||
               std::any_of(running_.begin(), running_.end(), [](const auto &one) {
                   return one->is_cancelled || !one->is_full || one->is_writable;
               });
    }

    void run() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return is_stopping_ || has_work(); });
            if (is_stopping_) {
                return;
            }
            Sequences ended = take_out([](const Sequence &one) { return one.is_cancelled; });
            choose_batch();
            lock.unlock();
            end(ended);  // not under the lock: the library may call back
            compute();
            dynamo_stream_push_many(pushes_.data(), pushes_.size(), sizeof pushes_[0]);
            lock.lock();
            ended = commit();
            lock.unlock();
            end(ended);
            lock.lock();
        }
    }

    // Requires the lock.
    template <class Predicate>
    Sequences take_out(Predicate predicate) {
        Sequences out;
        for (auto &one : running_) {
            if (predicate(*one)) {
                out.push_back(std::move(one));
            }
        }
        running_.erase(std::remove(running_.begin(), running_.end(), nullptr), running_.end());
        return out;
    }

    static void end(Sequences &sequences) {
        for (auto &one : sequences) {
            one->finish();
        }
        sequences.clear();
    }

    // Chooses the sequences that get a token, or read their prompt, in this step. Requires the lock.
    void choose_batch() {
        while (!waiting_.empty() && running_.size() < max_running_) {
            running_.push_back(std::move(waiting_.front()));
            waiting_.pop_front();
        }
        batch_.clear();
        for (const auto &one : running_) {
            if (!one->is_full || one->is_writable) {
                one->is_full = one->is_writable =
                    false;  // before the push: no on_writable() is lost
                batch_.push_back(one.get());
            }
        }
    }

    // Does the model's work, the longest part of a step. Runs without the lock.
    void compute() {
        std::size_t budget = prefill_tokens_;
        pushed_.clear();
        chunks_.clear();
        pushes_.clear();
        for (Sequence *const one : batch_) {
            if (one->prompt_left > 0) {
                const std::size_t part = std::min(one->prompt_left, budget);
                one->prompt_left -= part;
                budget -= part;
                continue;
            }
            if (!one->has_chunk) {
                babble_step(&one->answer);
                one->has_chunk = true;
            }
            pushed_.push_back(one);
            chunks_.push_back(babble_chunk(&one->answer));
        }
        for (std::size_t i = 0; i < pushed_.size(); ++i) {
            pushes_.push_back({pushed_[i]->stream.get(), &chunks_[i], DYNAMO_OK});
        }
        if (step_us_ > 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(step_us_));
        }
    }

    // Records the results of the pushes and returns the sequences that have ended. Requires the lock.
    Sequences commit() {
        if (report_ != nullptr && !pushes_.empty()) {
            ++report_->steps;
            report_->of_size.resize(std::max(report_->of_size.size(), pushes_.size() + 1));
            ++report_->of_size[pushes_.size()];
        }
        std::vector<const Sequence *> ended;
        for (std::size_t i = 0; i < pushes_.size(); ++i) {
            if (pushes_[i].status == DYNAMO_PENDING) {
                pushed_[i]->is_full = true;  // on_writable() may have been called already
                continue;
            }
            pushed_[i]->has_chunk = false;
            babble_taken(&pushed_[i]->answer);
            if (pushes_[i].status != DYNAMO_OK || pushed_[i]->answer.finish != nullptr) {
                ended.push_back(pushed_[i]);
            }
        }
        return take_out([&](const Sequence &one) {
            return std::find(ended.begin(), ended.end(), &one) != ended.end();
        });
    }

    std::size_t max_running_ = 64;
    std::size_t prefill_tokens_ = 256;
    std::size_t step_us_ = 0;
    std::size_t context_length_ = 4096;
    Report *const report_;
    std::string description_;

    // Used only by the step thread. Members, so that a step does not allocate.
    std::vector<Sequence *> batch_;
    std::vector<Sequence *> pushed_;
    std::vector<dynamo_chunk_t> chunks_;
    std::vector<dynamo_push_t> pushes_;

    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_stopping_ = false;  // requires the lock, as do all members below
    Sequences waiting_;
    Sequences running_;
    std::thread thread_;
};

#endif
