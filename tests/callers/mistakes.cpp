// SPDX-License-Identifier: Apache-2.0
// mistakes FILE: the same as mistakes.c, in C++.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <dynamo_llm.hpp>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

using dynamo_llm::Request;
using dynamo_llm::Runtime;
using dynamo_llm::Tokenizer;

namespace {

std::vector<std::string> split(const std::string &text, char separator) {
    std::vector<std::string> parts(1);
    for (const char c : text) {
        if (c == separator) {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    return parts;
}

std::string decoded(const std::string &word) {
    std::string text;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] == '%') {
            text += static_cast<char>(std::stoi(word.substr(i + 1, 2), nullptr, 16));
            i += 2;
        } else {
            text += word[i];
        }
    }
    return text;
}

// As C has it: -1 is for ever.
std::chrono::milliseconds time_of(const std::string &word) {
    const std::int64_t count = std::stoll(word);
    return count == -1 ? dynamo_llm::forever : std::chrono::milliseconds(count);
}

std::vector<std::uint32_t> numbers(const std::string &word) {
    std::vector<std::uint32_t> ids;
    for (const std::string &one : split(word, ',')) {
        ids.push_back(static_cast<std::uint32_t>(std::stoul(one)));
    }
    return ids;
}

struct Line {
    Runtime runtime{nullptr};
    Tokenizer tokenizer{nullptr};
    Request request;

    void run(const std::string &verb, const std::vector<std::string> &words) {
        if (verb == "runtime") {
            runtime = Runtime(words.at(0));
        } else if (verb == "ask") {
            request = runtime.send(words.at(0));
        } else if (verb == "ask_within") {
            request = Request(words.at(2));
            request.set_deadlines(time_of(words.at(0)), time_of(words.at(1)));
            runtime.send(request);
        } else if (verb == "request") {
            request = Request(words.at(0));
        } else if (verb == "deadlines") {
            request.set_deadlines(time_of(words.at(0)), time_of(words.at(1)));
        } else if (verb == "send") {
            runtime.send(request);
        } else if (verb == "cancel") {
            request.cancel();
        } else if (verb == "shutdown") {
            runtime.shutdown(time_of(words.at(0)));
        } else if (verb == "settle") {
            while (request.status() == DYNAMO_PENDING) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        } else if (verb == "receive") {
            for ([[maybe_unused]] const auto &response : request) {
            }
        } else if (verb == "tokenizer") {
            tokenizer = Tokenizer(words.at(0));
        } else if (verb == "encode") {
            tokenizer.encode(words.at(0));
        } else if (verb == "template") {
            tokenizer.apply_template(words.at(0));
        } else if (verb == "decode") {
            tokenizer.decode(numbers(words.at(0)));
        } else if (verb == "detokenize") {
            tokenizer.detokenizer().add(numbers(words.at(0)));
        } else {
            std::cerr << "no such step: " << verb << '\n';
            std::exit(2);
        }
    }
};

void run_line(const std::string &text) {
    std::vector<std::string> steps = split(text, '\t');
    std::cout << steps.at(0) << '\x1f';
    steps.erase(steps.begin());
    Line line;
    for (const std::string &step : steps) {
        std::vector<std::string> words = split(step, ' ');
        const std::string verb = words.at(0);
        words.erase(words.begin());
        for (std::string &word : words) {
            word = decoded(word);
        }
        try {
            line.run(verb, words);
        } catch (const dynamo_llm::Error &error) {
            std::cout << verb << '\x1f' << error.status() << '\x1f' << error.status_name() << '\x1f'
                      << error.what() << '\x1f' << error.json();
            break;
        }
    }
    std::cout << '\x1e';
}

}  // namespace

int main(int argc, char **argv) {
    alarm(100);
    std::ifstream table(argc == 2 ? argv[1] : "");
    if (!table) {
        return 2;
    }
    for (std::string line; std::getline(table, line);) {
        run_line(line);
    }
    return 0;
}
