# SPDX-License-Identifier: Apache-2.0
"""An engine with control calls of every kind."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from dynamo_llm.errors import OverloadedError


class Controlled:
    def __init__(self, config: Any) -> None:
        self.adapters = ["first"]
        self.is_cancelled = False
        self.calls = {
            "load_adapter": self.load_adapter,
            "echo": lambda **given: given,
            "thread": lambda: threading.current_thread().name,
            "thread_async": self.thread_async,
            "set": lambda: {1, 2},
            "fail": self.fail,
            "busy": self.busy,
            "explain": self.explain,
            "block": lambda seconds=0.1: time.sleep(seconds),
            "stall": self.stall,
            "was_cancelled": lambda: self.is_cancelled,
        }

    def start(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"adapters": list(self.adapters)}

    def load_adapter(self, name: str, path: str | None = None) -> dict[str, Any]:
        self.adapters.append(name)
        return {"name": name, "path": path}

    async def thread_async(self) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    def fail(self) -> None:
        raise ValueError("it is broken")

    async def busy(self) -> None:
        raise OverloadedError("requests are running", {"running": 7, "fatal": False})

    def explain(self, kind: str) -> None:
        endless: dict[str, Any] = {}
        endless["endless"] = endless
        details: dict[str, dict[str, Any]] = {
            "object": {"path": Path("/models"), "halves": ["\udc80"], "engine": "other", "python": "other"},
            "endless": endless,
            "number": {"load": float("nan")},
        }
        raise OverloadedError("see the details", details[kind])

    async def stall(self) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise

    async def generate(self, request: Any) -> Any:
        yield {"text": str(request.body.get("model"))}

    def stop(self) -> None:
        pass


class WrongMapping(Controlled):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.calls = ["echo"]  # type: ignore[assignment]


class WrongName(Controlled):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.calls = {"a-b": self.fail}


class WrongFunction(Controlled):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.calls = {"fail": 7}  # type: ignore[dict-item]
