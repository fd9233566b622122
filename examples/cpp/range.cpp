/* Reads an answer as a C++20 range, cancelled by a std::stop_source: range ["question" ["configuration"]]
 *
 *     g++ -std=c++20 -o range range.cpp $(dynamo-llm config --cflags --libs) -pthread
 *     ./range "What is a KV cache?"
 *     ./range "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
 *
  * Ctrl-C cancels the answer; a second Ctrl-C ends the program immediately. */
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <dynamo_llm.hpp>
#include <iostream>
#include <iterator>
#include <ranges>
#include <stop_token>
#include <string_view>
#include <thread>

// Returns a stop token that Ctrl-C stops. A separate thread waits for the signal, which is blocked here and thereby in
// all threads that are started later, including the library's.
static std::stop_token stop_on_interrupt() {
    std::stop_source source;
    sigset_t interrupts;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupts, nullptr);
    std::thread([source, interrupts]() mutable {
        int number = 0;
        sigwait(&interrupts, &number);
        source.request_stop();
        sigwait(&interrupts, &number);
        std::_Exit(130);
    }).detach();
    return source.get_token();
}

int main(int argc, char **argv) try {
    const std::stop_token stop = stop_on_interrupt();
    const dynamo_llm::Runtime runtime(argc > 2 ? argv[2] : "{}");
    const auto request = runtime.send(dynamo_llm::Chat(argc > 1 ? argv[1] : "What is a KV cache?"));
    const auto cancel = request.cancel_on(stop);

    std::cout << std::unitbuf;
    std::ranges::copy(request | std::views::transform(&dynamo_llm::Response::text),
                      std::ostream_iterator<std::string_view>(std::cout));
    std::cout << '\n';
} catch (const dynamo_llm::Error &error) {
    if (error.status() == DYNAMO_ERROR_CANCELLED) {
        std::cout << "\n(cancelled)\n";
        return 130;
    }
    std::cerr << "range: " << error.what() << '\n';
    return 1;
}
