// SPDX-License-Identifier: Apache-2.0
// The metrics of a runtime in the format of Prometheus.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "stream/counters.hpp"

namespace dynamo::metrics {

// One model of the runtime.
struct Source {
    std::string model;
    std::string engine;
    const Counters *counters;
    std::size_t in_flight;
    std::size_t queued;
};

// Writes the text exposition format of Prometheus, version 0.0.4.
std::string write(const std::vector<Source> &sources);

}  // namespace dynamo::metrics
