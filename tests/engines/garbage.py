# SPDX-License-Identifier: Apache-2.0
"""Engines whose chunks are wrong; the prompt says how."""

from typing import Any

_chunks: dict[str, Any] = {
    "number": 42,
    "none": None,
    "list": [{"text": "x"}],
    "text": {"text": 42},
    "surrogate": {"text": "a\udc80b"},
    "ids": {"token_ids": 7},
    "id": {"token_ids": [-1]},
    "big_id": {"token_ids": [1 << 32]},
    "word_id": {"token_ids": ["x"]},
    "index": {"text": "x", "index": 1},
    "negative_index": {"text": "x", "index": -1},
    "reason": {"finish_reason": 3},
    "delta": {"delta": [1, 2]},
    "delta_object": {"delta": {"x": object()}},
    "logprobs": {"logprobs": "x"},
    "usage": {"usage": "many"},
    "usage_word": {"usage": {"prompt_tokens": "x"}},
    "usage_negative": {"usage": {"completion_tokens": -1}},
    # Not wrong:
    "bytes": {"text": b"a\xff\xfeb"},
    "empty": {},
    "unknown": {"text": "x", "colour": "blue"},
}


class Async:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def generate(self, request: Any) -> Any:
        yield {"text": "good"}
        yield _chunks[request.body["prompt"]]


class Threaded(Async):
    def generate(self, request: Any) -> Any:
        yield {"text": "good"}
        yield _chunks[request.body["prompt"]]
