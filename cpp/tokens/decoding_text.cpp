// SPDX-License-Identifier: Apache-2.0
#include "tokens/decoding_text.hpp"

#include <algorithm>
#include <utility>

#include "base/utf8.hpp"
#include "tokens/token_text.hpp"

namespace dynamo::tokens {
namespace {

using Kind = Stage::Kind;

constexpr std::string_view replacement = "\xEF\xBF\xBD";

// Appends the complete code points of `bytes`, and leaves an incomplete one there. replaces_each: each byte that is not
// valid becomes U+FFFD, and not only each maximal invalid part.
void move_text(std::string &bytes, bool replaces_each, std::string &out) {
    std::string_view rest = bytes;
    while (!rest.empty()) {
        const Utf8Front front = utf8_front(rest);
        if (front.verdict == Utf8Front::partial) {
            break;
        }
        if (front.verdict == Utf8Front::complete) {
            out.append(rest.substr(0, front.length));
        } else {
            for (std::size_t i = 0; i < (replaces_each ? front.length : 1); ++i) {
                out.append(replacement);
            }
        }
        rest.remove_prefix(front.length);
    }
    bytes.erase(0, bytes.size() - rest.size());
}

}  // namespace

DecodingText::DecodingText(const Vocabulary &vocabulary)
    : vocabulary_(&vocabulary), states_(vocabulary.stages().size()) {
    for (std::size_t at = 0; at < states_.size(); ++at) {
        states_[at].left = vocabulary.stages()[at].start;
    }
}

bool DecodingText::is_settled() const noexcept {
    for (std::size_t at = 0; at < states_.size(); ++at) {
        const Kind kind = vocabulary_->stages()[at].kind;
        if ((kind == Kind::each_token && !states_[at].has_begun) ||
            (kind == Kind::strip_text && states_[at].left > 0)) {
            return false;
        }
    }
    return true;
}

void DecodingText::add(std::uint32_t id, std::string &out) {
    const Kind first = states_.empty() ? Kind::whole_text : vocabulary_->stages()[0].kind;
    if (first == Kind::each_token && std::exchange(states_[0].has_begun, true)) {
        feed(1, vocabulary_->piece(id), true, out);
    } else if (first == Kind::each_token) {
        feed(1, vocabulary_->stages()[0].piece(vocabulary_->token(id), true), true, out);
    } else if (first == Kind::byte_level) {
        std::string &held = states_[0].held;
        const std::string_view bytes = vocabulary_->piece(id);
        if (held.empty() && states_.size() == 1 && invalid_utf8_at(bytes) == bytes.npos) {
            out.append(bytes);
            return;
        }
        held.append(bytes);
        std::string text;
        move_text(held, false, text);
        if (!text.empty()) {
            feed(1, text, false, out);
        }
    } else {
        feed(0, vocabulary_->token(id), true, out);
    }
}

void DecodingText::finish(std::string &out) {
    finish(0, out);
}

void DecodingText::feed(std::size_t at, std::string_view text, bool ends, std::string &out) {
    if (at == states_.size()) {
        out.append(text);
        return;
    }
    switch (vocabulary_->stages()[at].kind) {
        case Kind::strip_text:
            strip(at, text, out);
            return;
        case Kind::replace_text:
            replace(at, text, out);
            return;
        case Kind::whole_text:
            states_[at].held.append(text);
            return;
        default:
            break;
    }
    std::string &begun = states_[at].begun;
    if (!ends) {
        begun.append(text);
    } else if (begun.empty()) {
        take(at, text, out);
    } else {
        const std::string token = std::exchange(begun, {}) + std::string(text);
        take(at, token, out);
    }
}

void DecodingText::take(std::size_t at, std::string_view token, std::string &out) {
    const Stage &stage = vocabulary_->stages()[at];
    State &state = states_[at];
    switch (stage.kind) {
        case Kind::each_token: {
            const bool is_first = !std::exchange(state.has_begun, true);
            feed(at + 1, stage.piece(token, is_first), true, out);
            return;
        }
        case Kind::byte_fallback:
            if (const int byte = byte_of_token(token); byte >= 0) {
                take_byte(at, byte, out);
                return;
            }
            end_bytes(at, out);
            feed(at + 1, token, true, out);
            return;
        case Kind::byte_level: {
            state.held.append(bytes_of_letters(token));
            std::string text;
            move_text(state.held, false, text);
            if (!text.empty()) {
                feed(at + 1, text, false, out);
            }
            return;
        }
        case Kind::suffix:
            take_with_suffix(at, token, out);
            return;
        case Kind::distinct:
            if (state.has_begun && state.last == token) {
                return;
            }
            state.has_begun = true;
            state.last = token;
            if (const std::string text = stage.piece(token, true); !text.empty()) {
                feed(at + 1, text, true, out);
            }
            return;
        default:
            return;
    }
}

void DecodingText::take_byte(std::size_t at, int byte, std::string &out) {
    State &state = states_[at];
    state.has_begun = true;
    state.held += static_cast<char>(byte);
    std::string text;
    move_text(state.held, true, text);
    if (!text.empty()) {
        feed(at + 1, text, false, out);
    }
}

void DecodingText::end_bytes(std::size_t at, std::string &out) {
    State &state = states_[at];
    if (!std::exchange(state.has_begun, false)) {
        return;
    }
    std::string rest;
    for (std::size_t i = 0; i < state.held.size(); ++i) {
        rest.append(replacement);
    }
    state.held.clear();
    feed(at + 1, rest, true, out);
}

void DecodingText::take_with_suffix(std::size_t at, std::string_view token, std::string &out) {
    const std::string &suffix = vocabulary_->stages()[at].from;
    State &state = states_[at];
    if (!state.held.empty()) {
        feed(at + 1, std::exchange(state.held, {}), true, out);
    }
    const std::string amid = replace_all(std::string(token), suffix, " ");
    const std::string last = replace_all(std::string(token), suffix, "");
    if (amid == last) {
        state.last.clear();
        feed(at + 1, token, true, out);
        return;
    }
    const auto same = static_cast<std::size_t>(
        std::mismatch(amid.begin(), amid.end(), last.begin(), last.end()).first - amid.begin());
    if (same > 0) {
        feed(at + 1, std::string_view(amid).substr(0, same), false, out);
    }
    state.held = amid.substr(same);
    state.last = last.substr(same);
}

void DecodingText::strip(std::size_t at, std::string_view text, std::string &out) {
    const Stage &stage = vocabulary_->stages()[at];
    State &state = states_[at];
    if (state.left == 0 && stage.stop == 0) {
        feed(at + 1, text, false, out);
        return;
    }
    const std::string all = std::exchange(state.held, {}) + std::string(text);
    std::string_view rest = all;
    const std::size_t removed = times_at_begin(rest, stage.from, state.left);
    rest.remove_prefix(removed * stage.from.size());
    state.left = rest.empty() ? state.left - removed : 0;
    const std::size_t at_end = times_at_end(rest, stage.from, stage.stop) * stage.from.size();
    state.held = rest.substr(rest.size() - at_end);
    feed(at + 1, rest.substr(0, rest.size() - at_end), false, out);
}

void DecodingText::replace(std::size_t at, std::string_view text, std::string &out) {
    const Stage &stage = vocabulary_->stages()[at];
    std::string rest = std::exchange(states_[at].held, {}) + std::string(text);
    std::string whole;
    std::size_t begin = 0;
    for (std::size_t found = rest.find(stage.from); found != rest.npos;
         found = rest.find(stage.from, begin)) {
        whole.append(rest, begin, found - begin).append(stage.to);
        begin = found + stage.from.size();
    }
    const std::size_t held = partial_match(std::string_view(rest).substr(begin), stage.from);
    whole.append(rest, begin, rest.size() - begin - held);
    states_[at].held = rest.substr(rest.size() - held);
    feed(at + 1, whole, false, out);
}

void DecodingText::finish(std::size_t at, std::string &out) {
    if (at == states_.size()) {
        return;
    }
    const Stage &stage = vocabulary_->stages()[at];
    State &state = states_[at];
    switch (stage.kind) {
        case Kind::byte_fallback:
            end_bytes(at, out);
            break;
        case Kind::byte_level:
            feed(at + 1, state.held.empty() ? std::string_view() : replacement, true, out);
            state.held.clear();
            break;
        case Kind::suffix:
            if (!std::exchange(state.held, {}).empty()) {
                feed(at + 1, std::exchange(state.last, {}), true, out);
            }
            break;
        case Kind::strip_text:
            state.held.clear();
            feed(at + 1, {}, true, out);
            break;
        case Kind::replace_text:
            feed(at + 1, std::exchange(state.held, {}), true, out);
            break;
        case Kind::whole_text:
            feed(at + 1, stage.piece(std::exchange(state.held, {}), true), true, out);
            break;
        default:
            break;
    }
    finish(at + 1, out);
}

}  // namespace dynamo::tokens
