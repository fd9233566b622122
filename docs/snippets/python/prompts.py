# SPDX-License-Identifier: Apache-2.0
# begin
import dynamo_llm

with dynamo_llm.Runtime() as runtime:
    prompts = ["A KV cache keeps", "Prefill is"]
    answer = runtime.complete(prompts, max_tokens=4, n=2).result()
    for choice in answer.choices:
        print(choice.index, prompts[choice.index // 2], choice.text)
# end
