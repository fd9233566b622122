# SPDX-License-Identifier: Apache-2.0
"""An engine of token ids: says the tokens of the prompt again, with the demo model's tokenizer around it."""

import asyncio
from typing import Any

from dynamo_llm.paths import demo_model_dir


class Uttering:
    kind = "tokens"

    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {"path": str(demo_model_dir()), "context_length": 1024, "capabilities": ["chat", "completion"]}

    async def generate(self, request: Any) -> Any:
        said = 0
        for token in request.token_ids:
            if token in request.stop_token_ids:
                continue
            await asyncio.sleep(0)
            said += 1
            yield {"token_ids": [token]}
            if said == request.max_tokens:
                yield {"token_ids": [], "finish_reason": "length"}
                return
        yield {"token_ids": [], "finish_reason": "stop"}
