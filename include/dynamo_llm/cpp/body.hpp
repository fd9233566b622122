// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json.hpp"
#include "media.hpp"
#include "response.hpp"

DYNAMO_LLM_BEGIN

/** The common part of Chat, Completion, Embedding, and the other kinds of bodies. */
template <class Body>
class RequestBody {
  public:
    /** Sets the name of the model, for runtimes with several. */
    Body &model(std::string_view name) { return set("model", name); }
    /** Sets the maximum number of tokens of the answer. */
    Body &max_tokens(std::uint64_t tokens) { return set("max_tokens", tokens); }
    /** Sets the sampling temperature; 0 is greedy. */
    Body &temperature(double value) { return set("temperature", value); }
    /** Samples from the most likely tokens whose probabilities add up to this value. */
    Body &top_p(double value) { return set("top_p", value); }
    /** Sets the seed of the sampler. */
    Body &seed(std::int64_t value) { return set("seed", value); }
    /** Sets the stop strings: texts that end the answer, and are not part of it. */
    Body &stop(const std::vector<std::string> &texts) { return set("stop", texts); }
    /** Sets the number of choices. */
    Body &n(std::uint32_t choices) { return set("n", choices); }
    /** Sets whether the answer streams (default), or arrives whole as one response. */
    Body &stream(bool value) { return set("stream", value); }
    /** Sets any key; the last value counts. */
    Body &set(std::string_view key, const Json &value) {
        object_.add(key, value);
        return static_cast<Body &>(*this);
    }
    /** Returns the body as JSON. */
    std::string json() const { return object_.text(); }

  protected:
    /** The keys set so far. */
    Json object_ = Json::raw("{}");
};

/** A parameter of a tool. */
struct Parameter {
    /** Its name. */
    std::string_view name;
    /** "string", "integer", "number", "boolean", or another type of JSON Schema. */
    std::string_view type = "string";
    /** What it means, for the model; may be empty. */
    std::string_view description = {};
    /** Whether every call has it. */
    bool is_required = true;
};

/** Builds a chat: an OpenAI body with "messages". */
class Chat : public RequestBody<Chat> {
  public:
    Chat() = default;
    /** Begins with a message of the user. */
    explicit Chat(std::string_view question) { user(question); }

    /** Adds a message with the role "system". */
    Chat &system(std::string_view content) { return message("system", content); }
    /** Adds a message of the user. */
    Chat &user(std::string_view content) { return message("user", content); }
    /** Adds a message of the user with images or audio, which come before the text. */
    Chat &user(std::string_view content, const std::vector<Media> &media) {
        Json parts = Json::raw("[]");
        for (const Media &one : media) {
            parts.push(one.part());
        }
        return message("user", parts.push(Json::object({{"type", "text"}, {"text", content}})));
    }
    /** Adds a message of the model, from earlier in the chat. */
    Chat &assistant(std::string_view content) { return message("assistant", content); }
    /** Adds a message of the model with tool calls, such as those of the last response of a stream. */
    Chat &assistant(std::string_view content, const std::vector<ToolCall> &calls,
                    std::string_view reasoning = {}) {
        if (calls.empty()) {
            return assistant(content);
        }
        Json list = Json::raw("[]");
        for (const ToolCall &call : calls) {
            list.push(Json::object({{"id", call.id},
                                    {"type", "function"},
                                    {"function", Json::object({{"name", call.name},
                                                               {"arguments", call.arguments}})}}));
        }
        Json whole = Json::object(
            {{"role", "assistant"}, {"content", content.empty() ? Json(nullptr) : Json(content)}});
        if (!reasoning.empty()) {
            whole.add("reasoning_content", reasoning);
        }
        return message(whole.add("tool_calls", list));
    }
    /** Adds a whole answer, as of Runtime::complete(), with its tool calls. Reasoning is included if it has some, because
     * a model continues it after their results. */
    Chat &answer(const Response &whole) {
        return assistant(whole.text(), whole.tool_calls(), whole.reasoning());
    }
    /** Adds the result of a tool call, whose id is that of the ToolCall. */
    Chat &tool_result(std::string_view id, std::string_view content) {
        return message(
            Json::object({{"role", "tool"}, {"tool_call_id", id}, {"content", content}}));
    }
    /** Adds a tool with parameters of simple types. */
    Chat &tool(std::string_view name, std::string_view description,
               std::initializer_list<Parameter> parameters = {}) {
        Json properties = Json::raw("{}");
        Json required = Json::raw("[]");
        for (const Parameter &parameter : parameters) {
            Json schema = Json::object({{"type", parameter.type}});
            if (!parameter.description.empty()) {
                schema.add("description", parameter.description);
            }
            properties.add(parameter.name, schema);
            if (parameter.is_required) {
                required.push(parameter.name);
            }
        }
        return tool(
            name, description,
            Json::object({{"type", "object"}, {"properties", properties}, {"required", required}}));
    }
    /** Adds a tool whose parameters are a JSON Schema. */
    Chat &tool(std::string_view name, std::string_view description, const Json &schema) {
        tools_.push(Json::object({{"type", "function"},
                                  {"function", Json::object({{"name", name},
                                                             {"description", description},
                                                             {"parameters", schema}})}}));
        return *this;
    }
    /** Adds a message with any role; its content is a text, or OpenAI's array of parts. */
    Chat &message(std::string_view role, const Json &content) {
        return message(Json::object({{"role", role}, {"content", content}}));
    }
    /** Adds a message as a whole object, for keys such as "tool_call_id". */
    Chat &message(const Json &whole) {
        messages_.push(whole);
        return *this;
    }
    /** Sets any key; the last value counts. "messages" replaces all messages so far, "tools" all tools. */
    Chat &set(std::string_view key, const Json &value) {
        if (key == "messages") {
            messages_ = value;
            return *this;
        }
        if (key == "tools") {
            tools_ = value;
            return *this;
        }
        return RequestBody::set(key, value);
    }
    /** Returns the body as JSON. */
    std::string json() const {
        Json whole = object_;
        if (tools_.text() != "[]") {
            whole.add("tools", tools_);
        }
        return whole.add("messages", messages_).text();
    }

  private:
    Json messages_ = Json::raw("[]");
    Json tools_ = Json::raw("[]");
};

/** Builds a completion: an OpenAI body with "prompt". */
class Completion : public RequestBody<Completion> {
  public:
    /** A prompt, used unchanged. */
    explicit Completion(std::string_view prompt) { set("prompt", prompt); }
    /** A prompt of token ids. */
    explicit Completion(const std::vector<std::uint32_t> &token_ids) { set("prompt", token_ids); }
    /** As above. */
    explicit Completion(std::initializer_list<std::uint32_t> token_ids)
        : Completion(std::vector<std::uint32_t>(token_ids)) {}
    /** Several prompts; each has its choices: choice i of prompt p has the index p * n + i. */
    explicit Completion(const std::vector<std::string> &prompts) { set("prompt", prompts); }
    /** As above. */
    explicit Completion(std::initializer_list<std::string> prompts)
        : Completion(std::vector<std::string>(prompts)) {}
    /** Several prompts of token ids. */
    explicit Completion(const std::vector<std::vector<std::uint32_t>> &prompts) {
        set("prompt", prompts);
    }
};

/** Builds an embedding request: an OpenAI body with "input". */
class Embedding : public RequestBody<Embedding> {
  public:
    /** One text. */
    explicit Embedding(std::string_view input) { set("input", input); }
    /** Several texts; the vectors are in the same order. */
    explicit Embedding(const std::vector<std::string> &inputs) { set("input", inputs); }
    /** As above. */
    explicit Embedding(std::initializer_list<std::string> inputs)
        : Embedding(std::vector<std::string>(inputs)) {}
};

/** Builds a rerank request; the answer's JSON has the "results". */
class Rerank : public RequestBody<Rerank> {
  public:
    /** Ranks documents by their relevance to a query. */
    Rerank(std::string_view query, const std::vector<std::string> &documents) {
        set("query", query).set("documents", documents);
    }
};

/** Builds a score request; the answer's JSON has a score for each pair in its "data". */
class Score : public RequestBody<Score> {
  public:
    /** Compares one text with each of several others. */
    Score(std::string_view text, const std::vector<std::string> &others) {
        set("text_1", text).set("text_2", others);
    }
};

/** Builds a classification request; the answer's JSON has a label for each text in its "data". */
class Classify : public RequestBody<Classify> {
  public:
    /** Texts to classify. */
    explicit Classify(const std::vector<std::string> &inputs) {
        set("task", "classify").set("input", inputs);
    }
};

/** Builds a body of OpenAI's Responses API, which engines answer as a chat. */
class Respond : public RequestBody<Respond> {
  public:
    /** A text of the user, or an array of items. */
    explicit Respond(const Json &input) { set("task", "respond").set("input", input); }
    /** Sets the system message that precedes the input. */
    Respond &instructions(std::string_view text) { return set("instructions", text); }
    /** Sets the maximum number of tokens of the answer. */
    Respond &max_tokens(std::uint64_t tokens) { return set("max_output_tokens", tokens); }
};

DYNAMO_LLM_END
