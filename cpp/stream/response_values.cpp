// SPDX-License-Identifier: Apache-2.0
#include "stream/response_values.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace dynamo {
namespace {

using json::Json;

double number_of(const Json &value) {
    return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

const Json &at(const Json &object, const char *key) {
    static const Json *const absent = new Json;  // leaked: used while the process exits
    const auto found = object.find(key);
    return found == object.end() ? *absent : *found;
}

// An array of objects with "token", "logprob", and "top_logprobs".
Logprob read_of_chat(const Json &entry) {
    Logprob read;
    read.text = json::string_at(entry, "token");
    read.value = number_of(at(entry, "logprob"));
    if (const Json &top = at(entry, "top_logprobs"); top.is_array()) {
        for (const Json &one : top) {
            read.alternatives.push_back(read_of_chat(one));
            read.alternatives.back().alternatives.clear();
        }
    }
    return read;
}

// An object with texts as keys.
std::vector<Logprob> read_top_of_completion(const Json &top) {
    std::vector<Logprob> read;
    if (top.is_object()) {
        for (const auto &[text, value] : top.items()) {
            read.push_back({text, number_of(value), -1, {}});
        }
    }
    const auto rank = [](const Logprob &one) {
        return std::isnan(one.value) ? -std::numeric_limits<double>::infinity() : one.value;
    };
    std::stable_sort(read.begin(), read.end(),
                     [&](const Logprob &a, const Logprob &b) { return rank(a) > rank(b); });
    return read;
}

// Parallel arrays: "tokens", "token_logprobs", and "top_logprobs".
std::vector<Logprob> read_of_completion(const Json &logprobs) {
    const Json &texts = at(logprobs, "tokens");
    const Json &values = at(logprobs, "token_logprobs");
    const Json &top = at(logprobs, "top_logprobs");
    std::vector<Logprob> read(texts.size());
    for (std::size_t i = 0; i < read.size(); ++i) {
        if (const auto *const text = texts[i].get_ptr<const std::string *>()) {
            read[i].text = *text;
        }
        if (values.is_array() && i < values.size()) {
            read[i].value = number_of(values[i]);
        }
        if (top.is_array() && i < top.size()) {
            read[i].alternatives = read_top_of_completion(top[i]);
        }
    }
    return read;
}

// An object with "logprob" and "top", an array of pairs of a token id and a value.
Logprob read_of_tokens(const Json &entry) {
    Logprob read;
    read.value = number_of(at(entry, "logprob"));
    if (const Json &top = at(entry, "top"); top.is_array()) {
        for (const Json &pair : top) {
            if (pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() &&
                pair[0].get<std::uint64_t>() <= UINT32_MAX) {
                read.alternatives.push_back(
                    {"", number_of(pair[1]), pair[0].get<std::uint32_t>(), {}});
            }
        }
    }
    return read;
}

// RFC 4648, without line breaks. Ends at the first byte that is not a digit.
std::string from_base64(std::string_view text) {
    const auto value_of = [](char c) -> int {
        return c >= 'A' && c <= 'Z'   ? c - 'A'
               : c >= 'a' && c <= 'z' ? c - 'a' + 26
               : c >= '0' && c <= '9' ? c - '0' + 52
               : c == '+'             ? 62
               : c == '/'             ? 63
                                      : -1;
    };
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    std::uint32_t group = 0;
    int bits = 0;
    for (const char c : text) {
        const int value = value_of(c);
        if (value < 0) {
            break;
        }
        group = group << 6 | static_cast<std::uint32_t>(value);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes += static_cast<char>(group >> bits & 255);
        }
    }
    return bytes;
}

// "encoding_format": "base64" is float32, little-endian.
std::vector<float> read_vector(const Json &embedding) {
    std::vector<float> vector;
    if (const auto *const text = embedding.get_ptr<const std::string *>()) {
        const std::string bytes = from_base64(*text);
        for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
            std::uint32_t word = 0;
            for (std::size_t k = 4; k-- > 0;) {
                word = word << 8 | static_cast<unsigned char>(bytes[i + k]);
            }
            vector.push_back(std::bit_cast<float>(word));
        }
    } else if (embedding.is_array()) {
        vector.reserve(embedding.size());
        for (const Json &element : embedding) {
            vector.push_back(static_cast<float>(number_of(element)));
        }
    }
    return vector;
}

}  // namespace

std::vector<Logprob> read_logprobs(const Json &logprobs,
                                   const std::vector<std::uint32_t> &token_ids) {
    std::vector<Logprob> read;
    if (const Json &content = at(logprobs, "content"); content.is_array()) {
        for (const Json &entry : content) {
            read.push_back(read_of_chat(entry));
        }
    } else if (const Json &tokens = at(logprobs, "tokens"); tokens.is_array()) {
        if (!tokens.empty() && tokens[0].is_object()) {
            for (const Json &entry : tokens) {
                read.push_back(read_of_tokens(entry));
            }
        } else {
            read = read_of_completion(logprobs);
        }
    }
    if (read.size() == token_ids.size()) {
        for (std::size_t i = 0; i < read.size(); ++i) {
            read[i].token_id = token_ids[i];
        }
    }
    return read;
}

std::vector<std::vector<float>> read_embeddings(const Json &answer) {
    std::vector<std::pair<double, const Json *>> entries;
    if (const Json &data = at(answer, "data"); data.is_array()) {
        for (const Json &entry : data) {
            if (entry.is_object()) {
                const Json &index = at(entry, "index");
                entries.emplace_back(index.is_number() ? index.get<double>() : 0, &entry);
            }
        }
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto &a, const auto &b) { return a.first < b.first; });
    std::vector<std::vector<float>> vectors;
    vectors.reserve(entries.size());
    for (const auto &[index, entry] : entries) {
        vectors.push_back(read_vector(at(*entry, "embedding")));
    }
    return vectors;
}

}  // namespace dynamo
