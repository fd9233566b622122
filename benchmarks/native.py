# SPDX-License-Identifier: Apache-2.0
"""Runs mistral.rs with the demo model through its own Python API, to compare with c/answers.c.

    python benchmarks/native.py ANSWERS   a round streams ANSWERS answers of 200 tokens, one after the other
    python benchmarks/native.py body      prints the OpenAI body for the same request to the library

A round prints the number of tokens, seconds, and the median time to the first token in milliseconds.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from dynamo_llm.paths import demo_model_dir

_length = 200
_messages = [{"role": "user", "content": "What is a KV cache?"}]
#: Bias of the token that ends an answer, so that all answers have the same length, and all tokens have text.
_bias = -100.0


def _end() -> int:
    config = json.loads((demo_model_dir() / "config.json").read_text(encoding="utf-8"))
    return int(config["eos_token_id"])


def body() -> dict[str, Any]:
    """Returns the request's body."""
    return {
        "messages": _messages,
        "max_tokens": _length,
        "temperature": 0,
        "logit_bias": {str(_end()): _bias},
        "stream": True,
    }


def start() -> Callable[[], Iterator[int]]:
    """Loads the model. Returns a function that yields an answer as counts of tokens."""
    os.environ["RUST_LOG"] = "off"
    import mistralrs

    which = mistralrs.Which.Plain(model_id=str(demo_model_dir()), dtype=mistralrs.ModelDType.Auto)
    runner = mistralrs.Runner(which=which, token_source="none")

    def ask() -> Iterator[int]:
        request = mistralrs.ChatCompletionRequest(
            model="default",
            messages=_messages,
            max_tokens=_length,
            temperature=0.0,
            logit_bias={_end(): _bias},
            stream=True,
        )
        for chunk in runner.send_chat_completion_request(request):
            yield int(bool(chunk.choices[0].delta.content))

    return ask


def main(answers: int) -> None:
    """Runs a round for each line of stdin."""
    ask = start()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        tokens = 0
        firsts = []
        for _ in range(answers):
            sent = time.perf_counter()
            answer = ask()
            tokens += next(answer)
            firsts.append(time.perf_counter() - sent)
            tokens += sum(answer)
        result: dict[str, Any] = {"tokens": tokens, "seconds": time.perf_counter() - begin}
        result["ttft_ms"] = statistics.median(firsts) * 1e3
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "body":
        print(json.dumps(body()), end="")
    else:
        main(int(sys.argv[1]))
