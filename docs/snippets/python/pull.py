# SPDX-License-Identifier: Apache-2.0
"""Downloads a model of the Hugging Face Hub, and answers with it. The tests run a hub of their own for it."""

# begin
import dynamo_llm


def show(progress: dynamo_llm.Progress) -> None:
    if progress.fraction == 1:
        print(f"{progress.phase}: {progress.bytes_total / 1e6:.1f} MB")


dynamo_llm.pull("org/demo", progress=show)

with dynamo_llm.Runtime(model="hf:org/demo") as runtime:
    print(runtime.chat("What is a KV cache?").result().text)
# end
