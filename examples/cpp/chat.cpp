/* Streams an answer, token by token: chat ["question" ["configuration"]]
 *
 *     g++ -std=c++17 -o chat chat.cpp $(dynamo-llm config --cflags --libs)
 *     ./chat "What is a KV cache?"
 *     ./chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
 *
  * Ctrl-C cancels the answer; a second Ctrl-C ends the program immediately. */
#include <chrono>
#include <csignal>
#include <dynamo_llm.hpp>
#include <iostream>
#include <string>

static volatile std::sig_atomic_t interrupted;

// Signal handlers must not call the library.
static void interrupt(int number) {
    interrupted = 1;
    std::signal(number, SIG_DFL);
}

int main(int argc, char **argv) try {
    const dynamo_llm::Runtime runtime(argc > 2 ? argv[2] : "{}");
    std::signal(SIGINT, interrupt);
    const auto request = runtime.send(dynamo_llm::Chat(argc > 1 ? argv[1] : "What is a KV cache?"));

    std::string finish;
    dynamo_llm::Received received;
    // The timeout lets the loop check for Ctrl-C ten times a second; `for (auto &response : request)` would block.
    while (!(received = request.next(std::chrono::milliseconds(100))).has_ended()) {
        if (interrupted) {
            request.cancel();
        }
        std::cout << received.response.text() << std::flush;
        if (received.status == DYNAMO_OK) {
            finish = received.response.finish_reason();
        }
    }
    std::cout << '\n';
    if (const auto error = request.error()) {
        throw *error;
    }
    std::cout << '(' << finish << ")\n";
} catch (const dynamo_llm::Error &error) {
    if (error.status() == DYNAMO_ERROR_CANCELLED) {
        std::cout << "(cancelled)\n";
        return 130;
    }
    std::cerr << "chat: " << error.what() << '\n';
    return 1;
}
