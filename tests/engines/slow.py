# SPDX-License-Identifier: Apache-2.0
"""An engine that takes its time to start and to stop."""

import time
from typing import Any


class Slow:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None:
        time.sleep(0.1)

    def generate(self, request: Any) -> Any:
        yield {"text": "slow"}

    def stop(self) -> None:
        time.sleep(0.1)
