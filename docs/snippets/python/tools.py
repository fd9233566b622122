# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import AsyncIterator
from typing import Any

import dynamo_llm


class Clerk:
    """Stands in for a model that calls tools, so that this program runs without a download."""

    def __init__(self, config: Any) -> None:
        pass

    def start(self) -> None:
        pass

    async def generate(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        last = request.body["messages"][-1]
        if last["role"] == "tool":
            yield {"text": f"It is {last['content']} in Oslo."}
            return
        function = {"name": "temperature", "arguments": '{"city": "Oslo"}'}
        call = {"index": 0, "id": "call-1", "type": "function", "function": function}
        yield {"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}

    def stop(self) -> None:
        pass


# begin
def temperature(city: str) -> str:
    return {"Oslo": "4 °C", "Rome": "19 °C"}[city]


tool = {
    "type": "function",
    "function": {
        "name": "temperature",
        "description": "Temperature outside, in degrees Celsius.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
messages: list[dict[str, Any]] = [{"role": "user", "content": "How cold is it in Oslo?"}]
with dynamo_llm.Runtime(engine="__main__:Clerk") as runtime:  # or model="models/qwen"
    answer = runtime.chat(messages, tools=[tool]).result()
    while answer.tool_calls:
        messages.append(answer.message)
        for call in answer.tool_calls:
            print(call.name, call.arguments)
            content = temperature(**json.loads(call.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
        answer = runtime.chat(messages, tools=[tool]).result()
    print(answer.text)
# end
