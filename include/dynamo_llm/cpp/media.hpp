// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json.hpp"

DYNAMO_LLM_BEGIN

/** An image or audio in a message. */
struct Media {
    /** "image/png", "image/jpeg", "image/gif", "image/webp", "audio/wav", "audio/mp3", or another type of an image or
     * of audio. */
    std::string_view type;
    /** The content of the file. */
    std::string_view data;

    /** Returns the part of a message, with a copy of the data as base64. */
    Json part() const {
        constexpr std::string_view audio = "audio/";
        if (type.substr(0, audio.size()) == audio) {
            return Json::object(
                {{"type", "input_audio"},
                 {"input_audio",
                  Json::object({{"data", base64()}, {"format", type.substr(audio.size())}})}});
        }
        const std::string url = "data:" + std::string(type) + ";base64," + base64();
        return Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", url}})}});
    }

  private:
    std::string base64() const {
        const char *const digits =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::string text;
        text.reserve((data.size() + 2) / 3 * 4);
        for (std::size_t at = 0; at < data.size(); at += 3) {
            std::uint32_t group = 0;
            for (std::size_t i = 0; i < 3; ++i) {
                group <<= 8;
                group |= at + i < data.size() ? static_cast<unsigned char>(data[at + i]) : 0U;
            }
            for (std::size_t i = 0; i < 4; ++i) {
                text += at + i <= data.size() ? digits[(group >> (18 - 6 * i)) & 63U] : '=';
            }
        }
        return text;
    }
};

DYNAMO_LLM_END
