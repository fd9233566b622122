// SPDX-License-Identifier: Apache-2.0
#include "python/detokenizers.hpp"

#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "dynamo_llm.h"
#include "tokens/detokenizer.hpp"

namespace dynamo::python::detokenizers {
namespace {

struct Published {
    std::mutex mutex;
    std::uint64_t last = 0;
    std::map<std::uint64_t, std::shared_ptr<const tokens::Vocabulary>> vocabularies;
};

// Leaked, because callers may use it while the process exits.
Published &published() {
    static Published *const instance = new Published;
    return *instance;
}

struct Decoding {
    tokens::Detokenizer detokenizer;
    std::string text = {};
};

void *open(std::uint64_t number, std::int32_t skips_special_tokens) noexcept {
    try {
        const std::lock_guard lock(published().mutex);
        const auto found = published().vocabularies.find(number);
        return found == published().vocabularies.end()
                   ? nullptr
                   : new Decoding{
                         tokens::Detokenizer(found->second, {}, skips_special_tokens != 0)};
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

std::int32_t feed(void *detokenizer, const std::uint32_t *ids, std::size_t count,
                  std::int32_t is_last, const char **text, std::size_t *length) noexcept {
    auto &decoding = *static_cast<Decoding *>(detokenizer);
    try {
        decoding.text.clear();
        decoding.detokenizer.feed({ids, count}, decoding.text);
        if (is_last != 0) {
            decoding.detokenizer.flush(decoding.text);
        }
    } catch (const std::bad_alloc &) {
        return DYNAMO_ERROR_OUT_OF_MEMORY;
    } catch (const std::exception &) {
        return DYNAMO_ERROR_ENGINE_FAILED;
    }
    *text = decoding.text.data();
    *length = decoding.text.size();
    return DYNAMO_OK;
}

void close(void *detokenizer) noexcept {
    delete static_cast<Decoding *>(detokenizer);
}

constexpr dynamo_detokenizer_functions all = {open, feed, close};

}  // namespace

const dynamo_detokenizer_functions *functions() noexcept {
    return &all;
}

std::uint64_t publish(std::shared_ptr<const tokens::Vocabulary> vocabulary) {
    const std::lock_guard lock(published().mutex);
    published().vocabularies.emplace(++published().last, std::move(vocabulary));
    return published().last;
}

void withdraw(std::uint64_t number) {
    const std::lock_guard lock(published().mutex);
    published().vocabularies.erase(number);
}

}  // namespace dynamo::python::detokenizers
