# SPDX-License-Identifier: Apache-2.0
"""The command line with models of the Hugging Face Hub."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, patience, run
from dynamo_llm.cli import runtime_options
from hub_fixtures import hub, tiny_gguf
from hub_server import Hub, Repository

__all__ = ["hub", "tiny_gguf"]

COMMAND = [sys.executable, "-m", "dynamo_llm"]
question = "What is a KV cache?"


def cli(hub: Hub, home: Path, *words: str, **more: str) -> Completed:
    return run([*COMMAND, *words], hub.environment(home, **more))


def test_chat(hub: Hub, tmp_path: Path) -> None:
    """--model takes a name, downloads it, and does not need the network again. No bar without a terminal."""
    result = cli(hub, tmp_path, "chat", "--model", "org/demo", question)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("A KV cache keeps")
    hub.status = 500
    again = cli(hub, tmp_path, "chat", "--offline", "--model", "hf:org/demo", question)
    assert (again.returncode, again.stdout) == (0, result.stdout)


def test_offline(hub: Hub, tmp_path: Path) -> None:
    for words, variables in ((["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})):
        result = cli(hub, tmp_path, "chat", *words, "--model", "org/demo", question, **variables)
        assert (result.returncode, result.stdout) == (1, "")
        assert "dynamo-llm pull org/demo" in result.stderr
    result = cli(hub, tmp_path, "pull", "--offline", "--json", "org/demo")
    assert json.loads(result.stdout)["error"]["name"] == "DYNAMO_ERROR_MODEL_NOT_FOUND"
    assert hub.requests == []


def test_pull(hub: Hub, tmp_path: Path) -> None:
    """The path is on stdout; an error is an object with --json."""
    result = cli(hub, tmp_path, "pull", "org/quants:q8_0")
    assert (result.returncode, result.stderr) == (0, "")
    path = Path(result.stdout.rstrip("\n"))
    assert path.name == "tiny-Q8_0.gguf"
    told = json.loads(cli(hub, tmp_path, "pull", "--json", "hf:org/quants:Q8_0").stdout)
    assert told == {"model": "hf:org/quants:Q8_0", "path": str(path)}
    result = cli(hub, tmp_path, "pull", "--json", "org/quants:Q5")
    error = json.loads(result.stdout)["error"]
    assert (result.returncode, error["name"]) == (1, "DYNAMO_ERROR_MODEL_NOT_FOUND")
    assert "it has: Q4_K_M, Q8_0" in error["message"]
    hub.status = 503
    error = json.loads(cli(hub, tmp_path, "pull", "--json", "org/quants:Q5").stdout)["error"]
    assert (error["name"], error["retriable"]) == ("DYNAMO_ERROR_UNAVAILABLE", True)


def test_bar(hub: Hub, tmp_path: Path) -> None:
    """On a terminal a bar shows the bytes."""
    hub.cuts["model.safetensors"] = [500_000]  # continuing takes a second
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, "pull", "org/demo"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, **hub.environment(tmp_path), "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
            if not data:
                break
            shown += data
        assert process.wait(patience) == 0
    finally:
        os.close(ours)
    assert b"Downloading the model" in shown and b"3.5 MB" in shown


def test_serve(hub: Hub, tmp_path: Path) -> None:
    """A worker serves a model by name."""
    pytest.importorskip("dynamo._core", reason="needs NVIDIA Dynamo")
    cluster = {"discovery": "file", "path": str(tmp_path / "store")}
    command = [*COMMAND, "serve", "--json", "--model", "org/demo", "--cluster", json.dumps(cluster)]
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.wait(patience) == 0
        finally:
            process.kill()
    assert (told["state"], told["model"]) == ("serving", "hf:org/demo")
    assert "model.safetensors" in hub.paths()


def test_names_of_servers() -> None:
    """An engine that asks a server gets org/name unchanged."""
    assert runtime_options._configured("org/name", None) == "hf:org/name"
    assert runtime_options._configured("org/name", "transformers") == "hf:org/name"
    for engine in ("openai", "dynamo", "echo", "nope", 3):
        assert runtime_options._configured("org/name", engine) == (
            "hf:org/name" if engine == 3 else "org/name"
        )


def test_models(hub: Hub, tmp_path: Path, tiny_gguf: bytes) -> None:
    """What is listed can be given as --model."""
    parts = {f"big/x-Q6_K-0000{number}-of-00002.gguf": tiny_gguf for number in (1, 2)}
    hub.repositories["org/split"] = Repository(parts)
    for name in ("org/demo", "org/demo@v1.0", "org/quants:Q8_0", "org/split:Q6_K"):
        assert cli(hub, tmp_path, "pull", name).returncode == 0
    hub.repositories["org/demo"].files["config.json"] += b"\n"
    assert cli(hub, tmp_path, "pull", "org/demo@v1.0").returncode == 0
    listed: list[dict[str, Any]] = json.loads(cli(hub, tmp_path, "models", "--json").stdout)
    by_name = {model["name"]: model for model in listed}
    assert by_name.keys() == {
        "demo",
        "org/demo",
        "org/demo@v1.0",
        "org/quants:tiny-Q8_0",
        "org/split:big/x-Q6_K",
    }
    assert by_name["org/split:big/x-Q6_K"]["bytes"] == 2 * len(tiny_gguf)
    hub.status = 500
    for name in ("org/demo@v1.0", "org/quants:tiny-Q8_0"):
        use = by_name[name]["use"]
        assert use == f"dynamo-llm chat --model {name}"
        result = cli(hub, tmp_path, *shlex.split(use)[1:], "--offline", "--max-tokens", "2", "a")
        assert result.returncode == 0, result.stderr
    # A commit that nothing refers to any more.
    (tmp_path / "hub" / "models--org--demo" / "refs" / "v1.0").unlink()
    listed = json.loads(cli(hub, tmp_path, "models", "--json").stdout)
    commit = hub.repositories["org/demo"].commit
    assert f"org/demo@{commit}" in {model["name"] for model in listed}


def test_broken_cache(hub: Hub, tmp_path: Path) -> None:
    """What cannot be read is reported on stderr, and the rest is listed."""
    assert cli(hub, tmp_path, "pull", "org/quants:Q8_0").returncode == 0
    broken = tmp_path / "hub" / "models--org--broken"
    broken.mkdir()
    result = cli(hub, tmp_path, "models")
    assert result.returncode == 0 and "org/quants:tiny-Q8_0" in result.stdout
    assert "models--org--broken" in result.stderr


@pytest.mark.parametrize("command", ["bench", "chat", "pull", "serve"])
def test_help(hub: Hub, tmp_path: Path, command: str) -> None:
    assert "org/name:Q4_K_M" in cli(hub, tmp_path, command, "--help", COLUMNS="200").stdout
