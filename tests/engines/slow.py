# SPDX-License-Identifier: Apache-2.0
"""An engine that takes its time to start and to stop: the option ``seconds``, a tenth if absent."""

import time
from typing import Any


class Slow:
    def __init__(self, config: Any) -> None:
        self.seconds = config.options.get("seconds", 0.1)

    def start(self) -> None:
        time.sleep(self.seconds)

    def generate(self, request: Any) -> Any:
        yield {"text": "slow"}

    def stop(self) -> None:
        time.sleep(self.seconds)
