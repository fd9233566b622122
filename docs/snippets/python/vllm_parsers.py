# SPDX-License-Identifier: Apache-2.0
import dynamo_llm

parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tool = {"type": "function", "function": {"name": "temperature", "parameters": parameters}}
# The demo model calls no tools by itself, so structured output prescribes its answer.
said = 'I look it up.\n<tool_call>{"name": "temperature", "arguments": {"city": "Oslo"}}</tool_call>'

# begin
options = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 1 << 26}

# vLLM's child processes import this file again.
if __name__ == "__main__":
    with dynamo_llm.Runtime(engine="vllm", options=options, tool_call_parser="vllm:hermes") as runtime:
        answer = runtime.chat("How cold is it in Oslo?", tools=[tool], guided_choice=[said]).result()
        print("text:", answer.text.strip())
        for call in answer.tool_calls:
            print("call:", call.name, call.arguments)
        print("finish reason:", answer.finish_reason)
# end
