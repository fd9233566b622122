// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "python/gil.hpp"

namespace dynamo::python {

// The wrapper's objects, given up without the GIL: that may wait for an engine, which may need it.
template <class Object>
struct Held {
    explicit Held(Object taken) : object(std::move(taken)) {}
    Held(const Held &) = delete;
    Held &operator=(const Held &) = delete;
    ~Held() { give_up(); }
    void give_up() {
        const Released released;
        object = Object(nullptr);
    }

    Object object;
};

}  // namespace dynamo::python
