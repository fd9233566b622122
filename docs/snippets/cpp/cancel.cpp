// g++ -std=c++20 -o cancel cancel.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    using namespace dynamo_llm;
    // An engine that never answers.
    const Json script = Json::array({Json::object({{"stall", true}})});
    Runtime runtime(Config().engine("scripted").option("script", script));
    // begin
    std::stop_source source;
    Request request{Completion("?")};
    request.set_deadlines(std::chrono::seconds(30), std::chrono::minutes(5));
    runtime.send(request);
    const auto bound = request.cancel_on(source.get_token());

    source.request_stop();  // from any thread, as request.cancel() may be called

    const Received received = request.next();
    std::cout << dynamo_status_name(received.status) << '\n';
    // end
}
