// SPDX-License-Identifier: Apache-2.0
// stream CONFIG BODY...: the same as stream.c, in C++.
#include <unistd.h>

#include <dynamo_llm.hpp>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace {

struct Choice {
    std::string text;
    std::vector<std::uint32_t> ids;
    std::string reason = "none";
};

void ask(const dynamo_llm::Runtime &runtime, const char *body) {
    std::map<std::uint32_t, Choice> choices;
    std::optional<dynamo_llm::Usage> usage;
    const char *status = dynamo_status_name(DYNAMO_END);
    try {
        for (const auto &response : runtime.send(body)) {
            Choice &choice = choices[response.index()];
            choice.text += response.text();
            const auto ids = response.token_ids();
            choice.ids.insert(choice.ids.end(), ids.begin(), ids.end());
            if (!response.finish_reason().empty()) {
                choice.reason = response.finish_reason();
            }
            if (const auto counts = response.usage()) {
                usage = counts;
            }
        }
    } catch (const dynamo_llm::Error &error) {
        status = error.status_name();
    }
    for (const auto &[index, choice] : choices) {
        std::cout << "choice " << index << "\nids";
        for (const std::uint32_t id : choice.ids) {
            std::cout << ' ' << id;
        }
        std::cout << "\ntext " << choice.text.size() << ' ' << choice.text << "\nreason "
                  << choice.reason << '\n';
    }
    if (usage) {
        std::cout << "usage " << usage->prompt_tokens << ' ' << usage->completion_tokens << ' '
                  << usage->cached_tokens << '\n';
    }
    std::cout << "status " << status << "\n\n";
}

}  // namespace

int main(int argc, char **argv) {
    alarm(100);
    try {
        const dynamo_llm::Runtime runtime(argc < 2 ? "" : argv[1]);
        for (int i = 2; i < argc; ++i) {
            ask(runtime, argv[i]);
        }
    } catch (const dynamo_llm::Error &error) {
        std::cerr << error.what() << '\n';
        return 2;
    }
    return 0;
}
