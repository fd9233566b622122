// SPDX-License-Identifier: Apache-2.0
// Decimal numbers as text, independent of the locale. The C library uses the host's locale, which may have another
// decimal point and may change at any time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dynamo::decimal {

// Prints the shortest text that reads back as the same number: "0.1", "1e+30".
std::string print(double value);

// Prints at most that many significant digits.
std::string print(double value, int digits);

// Reads a number such as "-1.5e3", rounded according to IEEE 754; underflow gives 0. Returns nothing if the whole text
// is not a number, or if it overflows.
std::optional<double> read(std::string_view text);

}  // namespace dynamo::decimal
