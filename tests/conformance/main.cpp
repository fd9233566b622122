// SPDX-License-Identifier: Apache-2.0
// Conformance suite: conformance profile.json|configuration [part of a case's name]
//
// Runs every case on the engine of the profile (profile.hpp), in every delivery mode, and prints a table with the
// reason for each case that was skipped or failed. A configuration in JSON stands for a profile with the defaults for
// everything else: use it for engines that chat as the demo model does. Exit status: 0 if no case failed, 1 if one did,
// 2 if the profile or engine cannot be used, 3 if a case hangs, 4 if the engine is not installed.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "suite.hpp"

namespace {

// Maximum seconds for a case in one delivery mode, on the slowest machine.
constexpr unsigned patience = 120;
constexpr unsigned start_patience = 400;  // an engine may have to start processes
char running[200];

void hangs(int) {
    const char *const words[] = {"this hangs: ", running, "\n"};
    for (const char *word : words) {
        if (write(STDERR_FILENO, word, std::strlen(word)) < 0) {
            break;
        }
    }
    _exit(3);
}

enum class Outcome { none, ok, skipped, failed };

struct Row {
    std::string name;
    std::map<Mode, Outcome> outcomes;
    bool is_over_modes;
    double seconds = 0;
};

class Table {
  public:
    void add(const Row &row) { rows_.push_back(row); }
    void skip(const std::string &name, const std::string &reason) {
        skips_[reason].push_back(name);
    }
    void fail(const std::string &name, const std::string &reason) {
        fails_.emplace_back(name, reason);
    }
    bool has_failed() const { return !fails_.empty(); }

    void print() const {
        std::printf("%-42s", "");
        for (const Mode mode : all_modes) {
            std::printf("%-10s", name_of(mode));
        }
        std::puts("");
        int counts[4] = {};
        for (const Row &row : rows_) {
            std::printf("%-42s", row.name.c_str());
            for (const auto &[mode, outcome] : row.outcomes) {
                ++counts[static_cast<int>(outcome)];
                std::printf("%-10s", word(outcome));
            }
            std::printf("%*s%6.2f s\n", row.is_over_modes ? 0 : 70, "", row.seconds);
        }
        for (const auto &[reason, names] : skips_) {
            std::printf("skipped, for %s:", reason.c_str());
            for (const std::string &name : names) {
                std::printf(" %s%s", name.c_str(), &name == &names.back() ? "\n" : ";");
            }
        }
        for (const auto &[name, reason] : fails_) {
            std::printf("FAILED: %s: %s\n", name.c_str(), reason.c_str());
        }
        std::printf("%d passed, %d skipped, %d failed\n", counts[1], counts[2], counts[3]);
    }

  private:
    static const char *word(Outcome outcome) {
        static const char *const words[] = {"", "ok", "skipped", "FAILED"};
        return words[static_cast<int>(outcome)];
    }

    std::vector<Row> rows_;
    std::map<std::string, std::vector<std::string>> skips_;
    std::vector<std::pair<std::string, std::string>> fails_;
};

Outcome run_one(Subject &subject, const Case &one, Mode mode, const std::string &name,
                Table &table) {
    std::snprintf(running, sizeof running, "%s (%s)", name.c_str(), name_of(mode));
    alarm(patience);
    const std::string where = one.is_over_modes ? running : name;
    try {
        one.run(subject, mode);
        if (subject.runtime) {
            subject.settle();
        }
        return Outcome::ok;
    } catch (const Skipped &reason) {
        if (mode == all_modes[0]) {
            table.skip(name, reason.what());
        }
        return Outcome::skipped;
    } catch (const std::exception &error) {
        table.fail(where, error.what());
        return Outcome::failed;
    }
}

void run_setting(const Profile &profile, const Setting &setting, const std::string &only,
                 Table &table) {
    std::vector<const Case *> chosen;
    for (const Case &one : setting.cases) {
        if (std::string(one.name).find(only) != std::string::npos) {
            chosen.push_back(&one);
        }
    }
    if (chosen.empty()) {
        return;
    }
    std::snprintf(running, sizeof running, "start of the engine");
    alarm(start_patience);
    Subject subject(profile, setting.changes);
    for (const Case *one : chosen) {
        const auto start = std::chrono::steady_clock::now();
        Row row{std::string(setting.name) + one->name, {}, one->is_over_modes};
        for (const Mode mode : all_modes) {
            if (one->is_over_modes || mode == all_modes[0]) {
                row.outcomes[mode] = run_one(subject, *one, mode, row.name, table);
            }
        }
        row.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        table.add(row);
    }
    std::snprintf(running, sizeof running, "stop of the engine");
}

std::vector<Case> joined(std::initializer_list<std::vector<Case>> parts) {
    std::vector<Case> all;
    for (const auto &part : parts) {
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

int run(const char *file, const std::string &only) {
    const Profile profile = Profile::read(file, CONFORMANCE_PROFILES "/default.json");
    register_engines();
    Table table;
    const Setting settings[] = {
        {"", "{}", joined({answer_cases, end_cases, error_cases, many_cases, drain_cases})},
        {"capacity 4: ", R"({"stream": {"capacity": 4}})", small_cases},
        {"capacity 1: ", R"({"stream": {"capacity": 1}})", joined({narrow_cases, timeout_cases})},
        {"fail at 2: ", R"({"stream": {"capacity": 2, "when_full": "fail"}})", overflow_cases},
        {"limits: ",
         R"({"stream": {"capacity": 1}, "limits": {"max_concurrent": 1, "max_queued": 1}})",
         limit_cases},
    };
    for (const Setting &setting : settings) {
        run_setting(profile, setting, only, table);
    }
    table.print();
    return table.has_failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        std::fprintf(stderr,
                     "usage: conformance profile.json|configuration [part of a case's name]\n");
        return 2;
    }
    std::signal(SIGALRM, hangs);
    try {
        return run(argv[1], argc == 3 ? argv[2] : "");
    } catch (const dynamo_llm::Error &error) {
        std::fprintf(stderr, "conformance: %s: %s\n", error.status_name(), error.what());
        return error.status() == DYNAMO_ERROR_ENGINE_UNAVAILABLE ? 4 : 2;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "conformance: %s\n", error.what());
        return 2;
    }
}
