# SPDX-License-Identifier: Apache-2.0
# begin
import math

import dynamo_llm

with dynamo_llm.Runtime() as runtime:
    answer = runtime.chat("What is prefill?", logprobs=True, top_logprobs=2, max_tokens=4).result()
    for token in answer.logprobs:
        others = [other.text for other in token.alternatives[1:]]
        print(f"{token.text!r} {math.exp(token.logprob):.2f}, then {others}")
# end
