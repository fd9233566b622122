// SPDX-License-Identifier: Apache-2.0
// The cases, the engine that they are run on, and what came of them.
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
// The same choices with the same texts, token ids and finish reasons.
void expect_same(const Answer &answer, const Answer &whole);
// What came before an answer was cut: a beginning of the whole answer, but not all of it.
void expect_part(const Answer &part, const Answer &whole);
// The story of an error, as the profile has it.
void check_story(const Profile &profile, const std::string &key, const std::string &story,
                 const std::string &request_id);
// Waits for what another thread does; the watchdog is the bound.
void wait_until(const std::function<bool()> &condition);

// A runtime of the engine under test. Each setting has one.
class Subject {
  public:
    // `changes`: members of the configuration, an object.
    Subject(const Profile &profile, const std::string &changes);

    const Profile &profile;
    dynamo_llm::Runtime runtime;

    // A counter of the statistics: "/requests/sent".
    long long count(const std::string &pointer) const;
    // The sum of a metric's samples, those whose labels have a text.
    long long metric(const std::string &name, const std::string &label) const;
    // Waits until the engine has let go of every request; then all that was sent must have ended, in the statistics
    // and in the metrics.
    void settle() const;
    // The whole answer to a body, as it comes with "stream": false. It must end well.
    const Answer &whole(const std::string &body);
    // A request that was sent.
    std::unique_ptr<Reader> sent(Mode mode, const std::string &body, bool is_held = false) const;
    // Requests that keep the engine busy, unread: what is sent after them waits in the engine. Their streams must
    // be short.
    std::vector<std::unique_ptr<Reader>> keep_busy() const;

  private:
    std::map<std::string, Answer> wholes_;
};

struct Case {
    const char *name;
    void (*run)(Subject &subject, Mode mode);
    bool is_over_modes = true;  // else it is run once
};

// Cases on one runtime, in this order; the last ones may stop it.
struct Setting {
    const char *name;
    const char *changes;  // of the configuration
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

// Engines that the program brings along; tests of other engines have this function of their own.
void register_engines();

#endif
