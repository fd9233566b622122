# SPDX-License-Identifier: Apache-2.0
"""An engine that creates runtimes in its coroutines and reports the result."""

from typing import Any

import dynamo_llm


class Opening:
    def __init__(self, config: Any) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: Any) -> Any:
        try:
            dynamo_llm.Runtime(engine="echo", progress=lambda report: None)
        except dynamo_llm.DynamoError as error:
            yield {"text": type(error).__name__}
        reports: list[dynamo_llm.Progress] = []
        async with await dynamo_llm.Runtime.open(engine="echo", progress=reports.append):
            yield {"text": " " + " ".join(report.phase for report in reports)}
