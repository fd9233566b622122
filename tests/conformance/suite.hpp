// SPDX-License-Identifier: Apache-2.0
// The cases, the engine under test, and the results.
#ifndef CONFORMANCE_SUITE_HPP
#define CONFORMANCE_SUITE_HPP

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "profile.hpp"
#include "reader.hpp"

// A case that failed.
class Failed : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

void expect(bool condition, const std::string &what);
void expect_status(std::int32_t status, std::int32_t expected, const std::string &what);
void expect_text(const std::string &text, const std::string &expected, const std::string &what);
// Checks that the choices are the same, with the same texts, token ids and finish reasons.
void expect_same(const Answer &answer, const Answer &whole);
// Checks an answer that was cut: it must be a proper prefix of the whole answer.
void expect_part(const Answer &part, const Answer &whole);
// Checks error details against the profile.
void check_details(const Profile &profile, const std::string &key, const std::string &details,
                   const std::string &request_id);
// Waits until another thread makes the condition true; bounded only by the watchdog.
void wait_until(const std::function<bool()> &condition);

// A runtime with the engine under test, one per setting.
class Subject {
  public:
    // `changes`: object whose members replace those of the configuration.
    Subject(const Profile &profile, const std::string &changes);

    const Profile &profile;
    dynamo_llm::Runtime runtime;

    // Returns a counter of the statistics, such as "/requests/sent".
    long long count(const std::string &pointer) const;
    // Returns the sum of a metric's samples whose labels contain `label`.
    long long metric(const std::string &name, const std::string &label) const;
    // Waits until the engine has finished with every request, then checks that statistics and metrics count all sent
    // requests as ended.
    void settle() const;
    // Returns the answer to a body with "stream": false. It must succeed.
    const Answer &whole(const std::string &body);
    // Creates and sends a request.
    std::unique_ptr<Reader> sent(Mode mode, const std::string &body, bool is_held = false) const;
    // Returns unread requests that keep the engine busy, so that later requests are queued in the engine. Requires a
    // small stream capacity.
    std::vector<std::unique_ptr<Reader>> keep_busy() const;

  private:
    std::map<std::string, Answer> wholes_;
};

struct Case {
    const char *name;
    void (*run)(Subject &subject, Mode mode);
    bool is_over_modes = true;  // otherwise it runs once
};

// Cases that run on one runtime, in this order; only the last ones may stop it.
struct Setting {
    const char *name;
    const char *changes;  // to the configuration
    std::vector<Case> cases;
};

extern const std::vector<Case> answer_cases;
extern const std::vector<Case> end_cases;
extern const std::vector<Case> error_cases;
extern const std::vector<Case> many_cases;
extern const std::vector<Case> drain_cases;
extern const std::vector<Case> small_cases;
extern const std::vector<Case> narrow_cases;
extern const std::vector<Case> timeout_cases;
extern const std::vector<Case> overflow_cases;
extern const std::vector<Case> limit_cases;

// Registers the engines linked into the program. Tests of other engines define their own version.
void register_engines();

#endif
