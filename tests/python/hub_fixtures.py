# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a server that speaks the hub's protocol, and a cache."""

from collections.abc import Callable, Iterator
from pathlib import Path

import hub_server
import pytest
import tiny_models
from hub_server import Hub, Repository


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model in GGUF."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_models.gguf(path)
    return path.read_bytes()


@pytest.fixture
def hub(tiny_gguf: bytes) -> Iterator[Hub]:
    """A hub with the demo model, and a repository of quantizations."""
    with hub_server.serving() as server:
        server.repositories["org/demo"] = Repository(hub_server.demo_files(), ["main", "v1.0"])
        server.repositories["org/quants"] = Repository(
            {
                "README.md": b"",
                "config.json": b"{}",
                "tiny-Q4_K_M.gguf": tiny_gguf,
                "tiny-Q8_0.gguf": tiny_gguf + b"\0",
            }
        )
        yield server


@pytest.fixture
def here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process use the server, and an empty cache. The fixture is a function that sets further
    variables.
    """

    def use(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    use(**hub.environment(tmp_path / "home"))
    return use
