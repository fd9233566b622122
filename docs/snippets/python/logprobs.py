# SPDX-License-Identifier: Apache-2.0
# begin
import math

import dynamo_llm

with dynamo_llm.Runtime() as runtime:
    answer = runtime.chat("What is prefill?", logprobs=True, top_logprobs=2, max_tokens=4).result()
    for token in answer.json()["choices"][0]["logprobs"]["content"]:
        others = [other["token"] for other in token["top_logprobs"][1:]]
        print(f"{token['token']!r} {math.exp(token['logprob']):.2f}, then {others}")
# end
