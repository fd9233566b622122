# SPDX-License-Identifier: Apache-2.0
from collections.abc import AsyncIterator
from typing import Any

import dynamo_llm
from dynamo_llm.paths import demo_model_dir
from tokenizers import Tokenizer

folder = demo_model_dir()
said = (
    "<think>The user asks for a temperature.</think>I look it up.\n"
    '<tool_call>{"name": "temperature", "arguments": {"city": "Oslo"}}</tool_call>'
)


class Caller:
    """Stands in for a model that calls tools, as tokens."""

    kind = "tokens"

    def __init__(self, config: Any) -> None:
        self._ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(said).ids

    def start(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"path": str(folder), "context_length": 1024}

    async def generate(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        for token in self._ids:
            yield {"token_ids": [token]}

    def stop(self) -> None:
        pass


parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tool = {"type": "function", "function": {"name": "temperature", "parameters": parameters}}

# begin
parsers = {"tool_call_parser": "hermes", "reasoning_parser": "qwen3"}
with dynamo_llm.Runtime(parsers, engine="__main__:Caller") as runtime:  # or "vllm", with a model
    answer = runtime.chat("How cold is it in Oslo?", tools=[tool]).result()
    print("reasoning:", answer.reasoning_content)
    print("text:", answer.text.strip())
    for call in answer.tool_calls:
        print("call:", call.name, call.arguments)
    print("finish reason:", answer.finish_reason)
    plain = runtime.chat("How cold is it in Oslo?", tools=[tool], tool_choice="none").result()
    print("without calls:", plain.text.splitlines()[-1])
# end
