// SPDX-License-Identifier: Apache-2.0
// The vocabularies that callers of the C interface decode with, by number.
#pragma once

#include <cstdint>
#include <memory>

#include "embed/bridge.h"
#include "tokens/vocabulary.hpp"

namespace dynamo::python::detokenizers {

const dynamo_detokenizer_functions *functions() noexcept;

// Returns the number of a vocabulary, until it is withdrawn.
std::uint64_t publish(std::shared_ptr<const tokens::Vocabulary> vocabulary);
void withdraw(std::uint64_t number);

}  // namespace dynamo::python::detokenizers
