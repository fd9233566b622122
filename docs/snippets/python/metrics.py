# SPDX-License-Identifier: Apache-2.0
# begin
import dynamo_llm

with dynamo_llm.Runtime(engine="echo") as runtime:
    runtime.complete("one two three").result()
    for line in runtime.metrics().splitlines():
        if line.startswith(("dynamo_llm_requests", "dynamo_llm_completion")):
            print(line)
# end
