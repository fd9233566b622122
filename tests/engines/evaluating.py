# SPDX-License-Identifier: Apache-2.0
"""An engine that runs "code" of its options, and answers with the JSON of what that calls `result`."""

import json
from typing import Any


class Evaluator:
    def __init__(self, config: Any) -> None:
        self.code = config.options["code"]

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def generate(self, request: Any) -> Any:
        names: dict[str, Any] = {"prompt": request.body["prompt"]}
        exec(self.code, names)
        yield {"text": json.dumps(names["result"])}
