// SPDX-License-Identifier: Apache-2.0
#include "engines/native.hpp"

#include <mutex>

#include "runtime/engine_registry.hpp"

namespace dynamo::engines {

void register_native() {
    static std::once_flag once;
    std::call_once(once, [] {
        const engine_registry::BuiltInScope adding(engine_registry::BuiltInScope::Kind::native);
        engine_registry::add("echo", echo(), nullptr, nullptr);
        engine_registry::add("scripted", scripted(), nullptr, nullptr);
    });
}

}  // namespace dynamo::engines
