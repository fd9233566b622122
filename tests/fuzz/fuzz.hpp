// SPDX-License-Identifier: Apache-2.0
// Shared by the fuzz targets. A finding ends the program with a line that names the violated condition.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "dynamo_llm.h"
#include "dynamo_llm/engine.h"

#define HOLDS(condition)                                                                        \
    ((condition) ? (void)0                                                                      \
                 : (std::fprintf(stderr, "%s:%d: %s does not hold; last error: %s\n", __FILE__, \
                                 __LINE__, #condition, dynamo_last_error()),                    \
                    std::abort()))

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace fuzz {

// Makes calls that need Python fail with PYTHON_UNAVAILABLE.
inline const bool has_no_python = [] { return setenv("DYNAMO_LLM_PYTHON", "none", 1) == 0; }();

inline bool is_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto first = static_cast<unsigned char>(text[at]);
        const int more = first < 0x80                    ? 0
                         : first >= 0xC2 && first < 0xE0 ? 1
                         : first >= 0xE0 && first < 0xF0 ? 2
                         : first >= 0xF0 && first < 0xF5 ? 3
                                                         : -1;
        if (more < 0 || text.size() - at <= static_cast<std::size_t>(more)) {
            return false;
        }
        std::uint32_t point = more == 0 ? first : first & (0x3F >> more);
        for (int i = 1; i <= more; ++i) {
            const auto next = static_cast<unsigned char>(text[at + static_cast<std::size_t>(i)]);
            if ((next & 0xC0) != 0x80) {
                return false;
            }
            point = point << 6 | (next & 0x3F);
        }
        const std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (point < least[more] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
            return false;
        }
        at += static_cast<std::size_t>(more) + 1;
    }
    return true;
}

// Receives everything, reads all parts of each response, and returns the text. The request has a deadline.
inline std::string receive(dynamo_request_t *request) {
    std::string text;
    for (int responses = 0;; ++responses) {
        dynamo_response_t *response = nullptr;
        const std::int32_t status = dynamo_request_next(request, 10000, &response);
        HOLDS(status != DYNAMO_PENDING);
        HOLDS((status == DYNAMO_OK) == (response != nullptr));
        if (status != DYNAMO_OK) {
            HOLDS(status == DYNAMO_END || status < 0);
            HOLDS(dynamo_request_status(request) == status);
            HOLDS((dynamo_request_error(request) != nullptr) == (status < 0));
            if (status < 0) {
                HOLDS(is_utf8(dynamo_request_error(request)));
                HOLDS(is_utf8(dynamo_request_error_json(request)));
            }
            return text;
        }
        std::size_t length = 0;
        const char *const piece = dynamo_response_text(response, &length);
        HOLDS(piece != nullptr && is_utf8({piece, length}) && piece[length] == '\0');
        text.append(piece, length);
        const char *const json = dynamo_response_json(response);
        HOLDS(json != nullptr && is_utf8(json));
        // The library must accept the JSON that it writes.
        dynamo_request_t *const again = dynamo_request_create_data(
            DYNAMO_DATA_JSON, json, std::char_traits<char>::length(json));
        HOLDS(again != nullptr);
        dynamo_request_destroy(again);
        std::size_t count = 0;
        dynamo_response_token_ids(response, &count);
        dynamo_response_finish_reason(response);
        for (std::size_t i = 0; i < dynamo_response_item_count(response); ++i) {
            dynamo_data_t item{};
            HOLDS(dynamo_response_item(response, i, &item) == DYNAMO_OK);
        }
        dynamo_free(response);
    }
}

}  // namespace fuzz
