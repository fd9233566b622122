# SPDX-License-Identifier: Apache-2.0
"""Sends bodies of OpenAI's Responses API."""

# begin
import dynamo_llm

with dynamo_llm.Runtime() as runtime:
    items = [{"role": "user", "content": "What is a KV cache?"}]
    answer = runtime.respond(items, max_output_tokens=9).result()
    print(answer.text, answer.json()["status"])

    # The items of the answer belong to the input of the next request: nothing is stored.
    items += [*answer.output, {"role": "user", "content": "What is prefill?"}]
    request = runtime.respond(items, max_output_tokens=3, instructions="Be brief.")
    for response in request:
        for event in response.json()["events"]:
            if event["type"] == "response.output_text.delta":
                print(event["delta"], end="")
    print(f" {event['type']}")  # the last one has the whole response
# end
