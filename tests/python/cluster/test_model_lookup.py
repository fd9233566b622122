# SPDX-License-Identifier: Apache-2.0
"""The model that the engine "dynamo" finds for a name while Dynamo shows and hides models, as a real cluster
does, but not on demand.
"""

import asyncio
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
from dynamo_llm.errors import NotSupportedError
from dynamo_llm.runtime.cluster.client.model_cards import ModelCard
from dynamo_llm.runtime.cluster.client.text_model import TextModel
from dynamo_llm.runtime.cluster.client.token_model import TokenModel
from dynamo_llm.runtime.engine import EngineConfig
from dynamo_llm.runtime.engines import dynamo

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

connection: Any = SimpleNamespace(runtime="runtime", core="core", is_connected=True)


class Shown:
    """The models that Dynamo and the discovery show."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, discovery: str = "file") -> None:
        cluster = {"discovery": discovery, **({"path": "/none"} if discovery == "file" else {})}
        config = EngineConfig(engine="dynamo", model=None, options={}, cluster=cluster)
        self.engine = dynamo.DynamoEngine(config)
        self.engine._frontend = self  # type: ignore[assignment]
        self.routers: dict[str, Any] = {}
        self.cards: list[ModelCard] = []
        self.listed: list[str] = []

        async def cards(_: Any) -> list[ModelCard]:
            return self.cards

        async def text(*_: Any) -> Any:
            return TextModel.__new__(TextModel)

        monkeypatch.setattr(dynamo, "model_cards", cards)
        monkeypatch.setattr(TextModel, "open", text)

    def names(self) -> list[str]:
        return self.listed

    def model(self, name: str, wait: float) -> Any:
        return self.routers.get(name)

    def card(self, input: str, kinds: str = "Chat | Completions") -> None:
        """Adds the card of a worker."""
        self.cards.append(ModelCard("m", "a.b.c", input, kinds, {}))

    def look(self, *listed: str) -> Any:
        """Returns the engine's model "m" while Dynamo lists these names."""
        self.listed = list(listed)
        asyncio.run(self.engine._update(connection))
        return self.engine._found("m")


def router() -> Any:
    """Dynamo's router of a token-level model."""
    return TokenModel.__new__(TokenModel)


@pytest.mark.parametrize("discovery", ["file", "kubernetes"])
def test_hidden_for_a_moment(monkeypatch: pytest.MonkeyPatch, discovery: str) -> None:
    """Dynamo does not create another router then."""
    shown = Shown(monkeypatch, discovery)
    shown.card("Tokens")
    shown.routers["m"] = first = router()
    for _ in range(3):
        assert shown.look("m") is first
        assert shown.look() is None


def test_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo creates no router for text models, and a new one for the next token-level model."""
    shown = Shown(monkeypatch)
    shown.card("Tokens")
    shown.routers["m"] = first = router()
    assert shown.look("m") is first
    assert shown.look() is None
    shown.cards.clear()
    shown.card("Text")
    text = shown.look("m")
    assert isinstance(text, TextModel)
    assert shown.look("m") is text
    assert shown.look() is None
    assert isinstance(shown.look("m"), TextModel)
    shown.look()
    shown.cards.clear()
    shown.card("Tokens")
    shown.routers["m"] = second = router()
    assert shown.look("m") is second


def test_an_unusable_card_beside_a_usable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill workers have their own kind of card; the router may appear after the name."""
    shown = Shown(monkeypatch)
    shown.card("Tokens", "Prefill")
    with pytest.raises(NotSupportedError, match="Prefill"):
        shown.look("m")
    shown.card("Tokens")
    shown.look()
    assert shown.look("m") is None
    shown.routers["m"] = made = router()
    assert shown.look("m") is made
