# SPDX-License-Identifier: Apache-2.0
"""Downloads a model of the Hugging Face Hub, and answers with it. The tests run a hub of their own for it."""

# begin
import dynamo_llm


def show(phase: str, count: int, total: int) -> None:
    if count and count == total:
        print(f"{phase}: {total / 1e6:.1f} MB")


dynamo_llm.pull("org/demo", progress=show)

with dynamo_llm.Runtime(model="hf:org/demo") as runtime:
    print(runtime.chat("What is a KV cache?").result().text)
# end
