// SPDX-License-Identifier: Apache-2.0
#include "frontend/answer_event.hpp"

#include <nlohmann/json.hpp>

#include "frontend/http_response.hpp"

namespace dynamo::frontend {
namespace {

using nlohmann::json;

[[noreturn]] void reject(const std::string &what) {
    throw ProtocolError("an event of an answer " + what);
}

// Reads an event without building a tree: there is one for each token. What it does not know in a delta needs the tree.
class Reader final : public nlohmann::json_sax<json> {
  public:
    explicit Reader(AnswerEvent &event) : event_(event) {}

    bool needs_tree() const noexcept { return needs_tree_; }

    bool null() override { return true; }
    bool boolean(bool) override { return other(); }
    bool number_float(number_float_t, const string_t &) override { return other(); }
    bool binary(binary_t &) override { return other(); }

    bool number_integer(number_integer_t value) override {
        if (is_counted()) {
            reject("has " + std::to_string(value) + " as \"" + key_ + "\"");
        }
        return other();
    }

    bool number_unsigned(number_unsigned_t value) override {
        if (place_ == Place::ids) {
            if (value > UINT32_MAX) {
                reject("has a token id of more than 32 bits");
            }
            event_.token_ids.push_back(static_cast<std::uint32_t>(value));
        } else if (place_ == Place::choice && key_ == "index") {
            if (value != 0) {
                reject("belongs to choice " + std::to_string(value) + ", but the request has one");
            }
        } else if (place_ == Place::usage && key_ == "prompt_tokens") {
            event_.usage->prompt_tokens = value;
        } else if (place_ == Place::usage && key_ == "completion_tokens") {
            event_.usage->completion_tokens = value;
        } else if (place_ == Place::details && key_ == "cached_tokens") {
            event_.usage->cached_tokens = value;
        } else {
            return other();
        }
        return true;
    }

    bool string(string_t &value) override {
        if (place_ == Place::delta && key_ == "content") {
            event_.text.swap(value);
        } else if (place_ == Place::choice && key_ == "text") {
            event_.text.swap(value);
        } else if (place_ == Place::choice && key_ == "finish_reason") {
            event_.finish_reason.swap(value);
        } else if (place_ == Place::delta && key_ == "role") {
            return true;
        } else if (place_ == Place::top && key_ == "error") {
            event_.is_error = true;
        } else {
            return other();
        }
        return true;
    }

    bool key(string_t &value) override {
        key_.swap(value);
        return true;
    }

    bool start_object(std::size_t) override {
        Place next = Place::other;
        if (outer_.empty()) {
            next = Place::top;
        } else if (place_ == Place::choices) {
            if (++choices_ > 1) {
                reject("has several choices, but the request has one");
            }
            next = Place::choice;
        } else if (place_ == Place::choice && key_ == "delta") {
            next = Place::delta;
        } else if (place_ == Place::top && key_ == "usage") {
            event_.usage.emplace();
            next = Place::usage;
        } else if (place_ == Place::usage && key_ == "prompt_tokens_details") {
            next = Place::details;
        } else if (place_ == Place::top && key_ == "nvext") {
            next = Place::extension;
        } else if (place_ == Place::top && key_ == "error") {
            event_.is_error = true;
        } else {
            other();
        }
        return enter(next);
    }

    bool start_array(std::size_t) override {
        Place next = Place::other;
        if (place_ == Place::top && key_ == "choices") {
            next = Place::choices;
        } else if (place_ == Place::extension && key_ == "completion_token_ids") {
            next = Place::ids;
        } else {
            other();
        }
        return enter(next);
    }

    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }

    bool parse_error(std::size_t position, const std::string &,
                     const nlohmann::detail::exception &) override {
        reject("is not valid JSON at byte " + std::to_string(position));
    }

  private:
    enum class Place : std::uint8_t {
        top,
        choices,
        choice,
        delta,
        usage,
        details,
        extension,
        ids,
        other
    };

    bool is_counted() const {
        return place_ == Place::ids || place_ == Place::usage || place_ == Place::details ||
               (place_ == Place::choice && key_ == "index");
    }

    // A value that is not read here.
    bool other() {
        needs_tree_ = needs_tree_ || place_ == Place::delta;
        return true;
    }

    bool enter(Place next) {
        outer_.push_back(place_);
        place_ = next;
        return true;
    }

    bool leave() {
        place_ = outer_.back();
        outer_.pop_back();
        return true;
    }

    AnswerEvent &event_;
    Place place_ = Place::other;
    std::vector<Place> outer_;
    std::string key_;
    int choices_ = 0;
    bool needs_tree_ = false;
};

// Returns the keys of a delta that are neither text nor role.
std::string further_keys(std::string_view text) {
    const json tree = json::parse(text);
    json further = json::object();
    for (const auto &[key, value] : tree["choices"][0]["delta"].items()) {
        if (key != "role" && key != "content" && !value.is_null()) {
            further[key] = value;
        }
    }
    return further.dump();
}

}  // namespace

void AnswerEvent::read(std::string_view json_text) {
    text.clear();
    token_ids.clear();
    finish_reason.clear();
    delta_json.clear();
    usage.reset();
    is_error = false;
    Reader reader(*this);
    json::sax_parse(json_text.begin(), json_text.end(), &reader);
    if (reader.needs_tree()) {
        delta_json = further_keys(json_text);
    }
}

}  // namespace dynamo::frontend
