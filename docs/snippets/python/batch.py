# SPDX-License-Identifier: Apache-2.0
# begin
import dynamo_llm

prompts = ["one two", "three four", "five six"]
with dynamo_llm.Runtime(engine="echo") as runtime:  # or engine="vllm", model="models/qwen"
    requests = [runtime.complete(prompt, max_tokens=2) for prompt in prompts]
    for request in requests:
        print(request.result().text)
# end
