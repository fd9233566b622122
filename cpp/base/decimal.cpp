// SPDX-License-Identifier: Apache-2.0
#include "base/decimal.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <locale>
#include <sstream>
#include <system_error>
#include <version>

namespace dynamo::decimal {

#if defined(__cpp_lib_to_chars)

namespace {

// Whether a number that is out of range overflows; otherwise it underflows.
bool is_huge(std::string_view text) {
    std::int64_t exponent = 0;
    const std::size_t e = text.find_first_of("eE");
    if (e != text.npos) {
        std::string_view digits = text.substr(e + 1);
        if (!digits.empty() && digits.front() == '+') {
            digits.remove_prefix(1);
        }
        if (std::from_chars(digits.data(), digits.data() + digits.size(), exponent).ec !=
            std::errc()) {
            return digits.front() != '-';
        }
    }
    const std::string_view mantissa = text.substr(0, e);
    const std::size_t first = mantissa.find_first_of("123456789");
    const auto point = static_cast<std::int64_t>(std::min(mantissa.find('.'), mantissa.size()));
    return first != mantissa.npos && exponent > static_cast<std::int64_t>(first) - point;
}

}  // namespace

std::string print(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string print(double value, int digits) {
    char text[64];
    return {text,
            std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr};
}

std::optional<double> read(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    if (error == std::errc::result_out_of_range) {
        return is_huge(text) ? std::nullopt
                             : std::optional<double>(text.front() == '-' ? -0.0 : 0.0);
    }
    return error == std::errc() ? std::optional<double>(value) : std::nullopt;
}

#else  // C++ libraries without floating-point <charconv>

std::string print(double value) {
    return print(value, 17);
}

std::string print(double value, int digits) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out.precision(digits);
    out << value;
    return out.str();
}

std::optional<double> read(std::string_view text) {
    std::istringstream in{std::string(text)};
    in.imbue(std::locale::classic());
    double value = 0;
    in >> value;
    if (in.fail() || in.peek() != std::istringstream::traits_type::eof()) {
        return std::nullopt;
    }
    return value;
}

#endif

}  // namespace dynamo::decimal
