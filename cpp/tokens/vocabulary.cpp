// SPDX-License-Identifier: Apache-2.0
#include "tokens/vocabulary.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <utility>

#include "tokens/token_text.hpp"

namespace dynamo::tokens {
namespace {

using json::Json;
using Decoders = std::span<const Json>;

std::string kind_of(const Json &decoder) {
    return decoder.at("type").get<std::string>();
}

// Appends the decoders of a sequence, and of the sequences in it, in order.
void flatten(const Json &decoder, std::vector<Json> &all) {
    if (kind_of(decoder) != "Sequence") {
        all.push_back(decoder);
        return;
    }
    for (const Json &inner : decoder.at("decoders")) {
        flatten(inner, all);
    }
}

// Whether the result of a decoder for a token depends only on the token and on whether it is the first.
bool is_per_token(const Json &decoder) {
    const std::string kind = kind_of(decoder);
    return kind == "Replace" || kind == "Strip" || kind == "Metaspace" || kind == "WordPiece";
}

// Builds the stages of a decoder.
class Builder {
  public:
    Builder(const Vocabulary::Decode &decode, std::vector<Stage> &stages, bool &is_native)
        : decode_(decode), stages_(stages), is_native_(is_native) {}

    void add(const Json &decoder) {
        if (decoder.is_null()) {
            stages_.push_back({.kind = Stage::Kind::each_token,
                               .piece = [](std::string_view token, bool is_first) {
                                   std::string text(is_first ? 0 : 1, ' ');
                                   return text.append(token);
                               }});
            return;
        }
        std::vector<Json> all;
        flatten(decoder, all);
        for (Decoders rest = all; !rest.empty();) {
            if (kind_of(rest[0]) == "Fuse") {
                is_fused_ = true;
                rest = rest.subspan(1);
            } else {
                rest = rest.subspan(is_fused_ ? add_behind_fuse(rest) : add_before_fuse(rest));
            }
        }
    }

  private:
    // Both return the number of decoders that the new stage stands for.
    std::size_t add_before_fuse(Decoders rest) {
        const std::string kind = kind_of(rest[0]);
        const auto others = std::find_if_not(rest.begin(), rest.end(), is_per_token);
        if (const auto count = static_cast<std::size_t>(others - rest.begin()); count > 0) {
            add_token_stage({.kind = Stage::Kind::each_token, .piece = pieces(rest.first(count))});
            return count;
        }
        if (kind == "ByteFallback") {
            add_token_stage({.kind = Stage::Kind::byte_fallback});
            has_byte_tokens_ = true;
        } else if (kind == "ByteLevel") {
            stages_.push_back({.kind = Stage::Kind::byte_level});
            is_fused_ = true;
        } else if (kind == "BPEDecoder" && rest[0].at("suffix") != "") {
            add_token_stage({.kind = Stage::Kind::suffix, .from = rest[0].at("suffix")});
        } else if (kind == "CTC") {
            Stage::Piece piece = distinct_function(rest[0]);
            add_token_stage({.kind = Stage::Kind::distinct,
                             .piece = piece ? std::move(piece) : decoded(rest.first(1))});
        } else {
            throw std::invalid_argument("the decoder " + json::dump(rest[0]) + " is unknown");
        }
        return 1;
    }

    std::size_t add_behind_fuse(Decoders rest) {
        const Json &first = rest[0];
        const std::string kind = kind_of(first);
        if (kind == "Strip") {
            stages_.push_back({.kind = Stage::Kind::strip_text,
                               .from = first.at("content"),
                               .start = first.at("start"),
                               .stop = first.at("stop")});
            return 1;
        }
        if (kind == "Replace" && first.at("pattern").value("String", "") != "") {
            const std::string from = first["pattern"]["String"];
            const bool is_one_letter = std::count_if(from.begin(), from.end(), [](char byte) {
                                           return (byte & 0xC0) != 0x80;
                                       }) == 1;
            stages_.push_back({.kind = Stage::Kind::replace_text,
                               .forgets = is_one_letter,
                               .from = from,
                               .to = first.at("content")});
            return 1;
        }
        stages_.push_back(
            {.kind = Stage::Kind::whole_text, .forgets = false, .piece = decoded(rest)});
        return rest.size();
    }

    void add_token_stage(Stage stage) {
        stage.forgets = !has_byte_tokens_;  // byte tokens can form a token of any length
        stages_.push_back(std::move(stage));
    }

    // Returns one function for decoders that are each per token.
    Stage::Piece pieces(Decoders decoders) {
        std::vector<Stage::Piece> functions;
        for (const Json &decoder : decoders) {
            functions.push_back(piece_function(decoder));
            if (!functions.back()) {
                return decoded(decoders);
            }
        }
        if (functions.size() == 1) {
            return functions[0];
        }
        return [functions](std::string_view token, bool is_first) {
            std::string text(token);
            for (const Stage::Piece &function : functions) {
                text = function(text, is_first);
            }
            return text;
        };
    }

    // Returns the function of decoders that are not known here.
    Stage::Piece decoded(Decoders decoders) {
        is_native_ = false;
        const Json description(std::vector<Json>(decoders.begin(), decoders.end()));
        const std::string before = "x";
        const std::size_t known = decode_(description, {before}).size();
        return
            [decode = &decode_, description, before, known](std::string_view token, bool is_first) {
                const std::string text(token);
                return is_first ? (*decode)(description, {text})
                                : (*decode)(description, {before, text}).substr(known);
            };
    }

    const Vocabulary::Decode &decode_;
    std::vector<Stage> &stages_;
    bool &is_native_;
    bool is_fused_ = false;
    bool has_byte_tokens_ = false;
};

}  // namespace

Vocabulary::Vocabulary(const std::vector<std::optional<std::string>> &tokens,
                       const std::vector<std::uint32_t> &special_ids, const Json &decoder,
                       Decode decode)
    : exists_(tokens.size()), is_special_(tokens.size()), decode_(std::move(decode)) {
    Builder(decode_, stages_, is_native_).add(decoder);
    const Stage *const first = stages_.empty() ? nullptr : &stages_[0];
    for (std::size_t id = 0; id < tokens.size(); ++id) {
        exists_[id] = tokens[id].has_value();
        const std::string_view token = exists_[id] ? std::string_view(*tokens[id]) : "";
        tokens_.add(token);
        if (first != nullptr && first->kind == Stage::Kind::each_token) {
            pieces_.add(exists_[id] ? first->piece(token, false) : "");
        } else if (first != nullptr && first->kind == Stage::Kind::byte_level) {
            pieces_.add(bytes_of_letters(token));
        }
    }
    tokens_.shrink();
    pieces_.shrink();
    for (const std::uint32_t id : special_ids) {
        if (id < is_special_.size()) {
            is_special_[id] = true;
        }
    }
    for (const Stage &stage : stages_) {
        forgets_ = forgets_ && stage.forgets;
        has_byte_tokens_ = has_byte_tokens_ || stage.kind == Stage::Kind::byte_fallback;
    }
    if (is_native_) {
        decode_ = nullptr;
    }
}

std::string Vocabulary::bytes_of(std::uint32_t id) const {
    if (!has(id)) {
        return {};
    }
    std::string text(token(id));
    for (const Stage &stage : stages_) {
        switch (stage.kind) {
            case Stage::Kind::each_token:
                text = stage.piece(text, false);
                break;
            case Stage::Kind::byte_fallback:
                if (const int byte = byte_of_token(text); byte >= 0) {
                    return std::string(1, static_cast<char>(byte));
                }
                break;
            case Stage::Kind::byte_level:
                return bytes_of_letters(text);
            case Stage::Kind::suffix:
                text = replace_all(std::move(text), stage.from, " ");
                break;
            case Stage::Kind::distinct:
                text = stage.piece(text, true);
                break;
            default:  // changes only the beginning and the end of a text
                return text;
        }
    }
    return text;
}

}  // namespace dynamo::tokens
