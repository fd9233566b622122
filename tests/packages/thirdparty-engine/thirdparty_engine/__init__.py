# SPDX-License-Identifier: Apache-2.0
"""A text engine: says words backwards."""

from collections.abc import Iterator

from dynamo_llm.errors import NotSupportedError
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest


class Backwards:
    """Takes completions, in a thread."""

    def __init__(self, config: EngineConfig) -> None:
        self._model = config.model

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        prompt = request.body.get("prompt")
        if not isinstance(prompt, str):
            raise NotSupportedError('the engine "thirdparty-text" takes "prompt" as a string only')
        for word in prompt.split():
            yield {"text": word[::-1] + " "}
