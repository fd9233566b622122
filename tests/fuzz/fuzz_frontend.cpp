// SPDX-License-Identifier: Apache-2.0
// Any bytes as a response of Dynamo's frontend, and as an event. How a response is split must not change what is read, and
// what the scanner reads of an event is what a tree of it has.
#include <nlohmann/json.hpp>
#include <vector>

#include "frontend/answer_event.hpp"
#include "frontend/event_stream.hpp"
#include "frontend/http_response.hpp"
#include "fuzz.hpp"

using namespace dynamo::frontend;

namespace {

// What a response gives: status, events, and the error.
std::vector<std::string> read(std::string_view bytes, std::size_t piece) {
    HttpResponse response;
    EventStream stream;
    EventStream::Event event;
    std::vector<std::string> found;
    std::string problem;
    for (; !bytes.empty() && problem.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
        try {
            response.feed(bytes.substr(0, piece), stream.buffer());
        } catch (const ProtocolError &error) {
            problem = error.what();
        }
        while (stream.next(event)) {
            found.push_back(std::string(event.name) + "|" + std::string(event.data));
        }
        stream.compact();
    }
    found.push_back(problem);
    found.push_back(std::to_string(response.status()));
    return found;
}

void read_event(std::string_view text) {
    AnswerEvent event;
    try {
        event.read(text);
    } catch (const ProtocolError &) {
        return;
    }
    const nlohmann::json tree = nlohmann::json::parse(text, nullptr, false);
    if (!tree.is_object()) {
        return;  // the scanner does not check what it skips
    }
    const auto choices = tree.find("choices");
    if (choices == tree.end() || !choices->is_array() || choices->size() != 1 ||
        !(*choices)[0].is_object() || (*choices)[0].contains("delta")) {
        return;
    }
    const auto found = (*choices)[0].find("text");
    const bool is_only = text.find("\"text\"") == text.rfind("\"text\"");
    if (found != (*choices)[0].end() && found->is_string() && is_only) {
        HOLDS(event.text == found->get<std::string>());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char *>(data), size);
    const std::vector<std::string> whole = read(bytes, bytes.size());
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}}) {
        HOLDS(read(bytes, piece) == whole);
    }
    read_event(bytes);
    return 0;
}
