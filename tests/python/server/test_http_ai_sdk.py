# SPDX-License-Identifier: Apache-2.0
"""Vercel's AI SDK, the usual client of programs in JavaScript, against the server."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from conftest import run
from served import Served, scripted, serve

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

folder = Path(__file__).resolve().parent / "ai_sdk"
node = shutil.which("node")
if node is None:
    pytest.skip("needs node, of Node.js", allow_module_level=True)
if not (folder / "node_modules" / "ai").exists():
    pytest.skip(f"needs node_modules, which npm ci in {folder} makes", allow_module_level=True)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(scripted) as one:
        yield one


def ask(served: Served, what: str, *script: dict[str, Any]) -> Any:
    """Runs ask.js. Returns what it prints."""
    assert node is not None
    command = [node, folder / "ask.js", f"{served.url}/v1", what, json.dumps(script)]
    result = run(command, {"PATH": os.environ["PATH"]}, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_whole_answer(served: Served) -> None:
    answer = ask(served, "generate", {"text": "one "}, {"text": "zwei 語 🦀"})
    assert (answer["text"], answer["finishReason"]) == ("one zwei 語 🦀", "stop")
    assert answer["usage"]["outputTokens"] == 2


def test_stream(served: Served) -> None:
    """Pieces, and the counts that the SDK asks for."""
    answer = ask(served, "stream", *({"text": f"{word} ", "delay_ms": 50} for word in ("one", "語", "🦀")))
    assert "".join(answer["pieces"]) == "one 語 🦀 "
    assert len(answer["pieces"]) > 1
    assert (answer["finishReason"], answer["usage"]["outputTokens"]) == ("stop", 3)


def test_tool_calls(served: Served) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "clock", "arguments": '{"city": "Oslo"}'}}
    calls = ask(served, "tools", {"delta": {"tool_calls": [call]}}, {"finish": "tool_calls"})
    assert calls == [{"toolName": "clock", "input": {"city": "Oslo"}}]


def test_error(served: Served) -> None:
    """The SDK finds the status and the message where it expects them."""
    error = ask(served, "error", {"error": {"status": "OVERLOADED", "message": "the reason"}})
    assert (error["statusCode"], error["isRetryable"], error["message"]) == (429, True, "the reason")


def test_embeddings(tmp_path: Path) -> None:
    with serve({"model": str(tiny_models.embedder(tmp_path / "model"))}) as embedder:
        vectors = ask(embedder, "embed")
    assert [len(vector) for vector in vectors] == [tiny_models.WIDTH] * 2
