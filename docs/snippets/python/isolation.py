# SPDX-License-Identifier: Apache-2.0
"""An engine in a child process: a crash of it is an error of its requests."""

import dynamo_llm

with dynamo_llm.Runtime(
    engine="echo",
    isolation="process",
    isolation_options={"heartbeat_timeout_ms": 10_000, "memory_limit_mib": 16_384},
) as runtime:
    print(runtime.complete("This text went to another process and back.").result().text)
