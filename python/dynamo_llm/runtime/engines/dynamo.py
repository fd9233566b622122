# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo``: the models of a cluster of NVIDIA Dynamo."""

import asyncio
import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dynamo_llm.errors import InvalidConfigError, ModelNotFoundError, NotSupportedError, UnavailableError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster.cards import cards
from dynamo_llm.runtime.cluster.connection import Connection, Event, acquire
from dynamo_llm.runtime.cluster.frontend import Frontend, frontend_of
from dynamo_llm.runtime.cluster.probe import Pauses
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.cluster.text_model import TextModel
from dynamo_llm.runtime.cluster.token_model import TokenModel
from dynamo_llm.runtime.engine import EngineConfig, EngineRequest, ModelInfo

_log = logging.getLogger("dynamo_llm.cluster")

#: Seconds between two looks at the models that there are.
_between_looks = 0.2
#: Seconds that the start waits for models whose workers are registered.
_at_first = 2.0

Model = TokenModel | TextModel


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    wait_for_model_ms: int = 10000
    """How long a request whose model has no worker waits for one, in milliseconds; its deadlines may be
    sooner. 0: not at all."""


class DynamoEngine:
    """A client of a cluster; the configuration's ``cluster`` says where it is, see
    :class:`~dynamo_llm.runtime.cluster.settings.Settings`, and :class:`Options` has its options. The
    configuration's ``model`` is the cluster's name of the model, for requests that name none.
    """

    kind: Literal["models"] = "models"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        if self._options.wait_for_model_ms < 0:
            raise InvalidConfigError('"options.wait_for_model_ms" of the configuration must not be negative')
        self._settings = Settings.read(config.cluster)
        self._config = config
        self._connection: Connection | None = None
        self._frontend: Frontend | None = None
        self._models: dict[str, Model] = {}
        #: Models of token ids that have gone. They may come back, or others under their names.
        self._gone: dict[str, TokenModel] = {}
        self._seen: set[str] = set()
        self._unusable: dict[str, str] = {}
        self._has_changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._is_connected = True
        self._forget: Callable[[], None] | None = None

    async def start(self) -> None:
        """Connect, and see the models that there are. More may come, or none: requests wait for theirs."""
        connection = self._connection = await acquire(self._settings)
        try:
            self._frontend = await frontend_of(connection, self._settings)
            await self._look_around(connection)
        except BaseException:
            await self.stop()
            raise
        self._forget = connection.subscribe(self._on_event)
        self._looking = asyncio.create_task(self._look_for_ever(connection))

    async def stop(self) -> None:
        """Disconnect."""
        if self._forget is not None:
            self._forget()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._connection is not None:
            await self._connection.release()

    def describe(self) -> ModelInfo:
        """The models that there are now."""
        models = [{"id": name, **model.describe()} for name, model in sorted(self._models.items())]
        return {"changes": True, "models": models}

    async def find(self, request: EngineRequest) -> Model:
        """The model that a request names, or the configuration, or the only one; waits for its workers."""
        asked = request.body.get("model")
        if asked is None or asked == self._config.name:
            asked = self._config.model
        if (model := self._found(asked)) is not None:
            return model
        try:
            return await asyncio.wait_for(self._wait_for(asked), self._options.wait_for_model_ms / 1000)
        except asyncio.TimeoutError:
            raise self._absent(asked) from None

    async def _wait_for(self, asked: str | None) -> Model:
        while (model := self._found(asked)) is None:
            await self._has_changed.wait()
        return model

    def _found(self, asked: str | None) -> Model | None:
        """The model; None if it may come yet."""
        if asked is not None and asked in self._unusable:
            raise NotSupportedError(self._unusable[asked])
        if asked is not None and asked in self._models:
            return self._models[asked]
        if asked is None and len(self._models) == 1:
            return next(iter(self._models.values()))
        if asked is None and self._models:
            raise ModelNotFoundError(
                f'the request names no "model", and the cluster has several: {self._names()}'
            )
        if self._models and asked not in self._seen:
            raise self._unknown(asked)
        return None

    def _names(self) -> str:
        return ", ".join(sorted([*self._models, *self._unusable]))

    def _unknown(self, asked: str | None) -> ModelNotFoundError:
        close = difflib.get_close_matches(str(asked), sorted(self._models), n=1)
        hint = f'did you mean "{close[0]}"? ' if close else ""
        return ModelNotFoundError(f'the cluster has no model "{asked}"; {hint}Its models: {self._names()}')

    def _absent(self, asked: str | None) -> UnavailableError:
        """The error for a model that did not come."""
        what = "no model" if asked is None else f'no worker for the model "{asked}"'
        where = f'in the namespace "{self._settings.namespace}" of {self._settings.address}'
        lost = "" if self._is_connected else "; the connection is lost, and is being restored"
        return UnavailableError(
            f"there was {what} {where} for {self._options.wait_for_model_ms} ms "
            f'("options.wait_for_model_ms" of the configuration){lost}'
        )

    # ------------------------------------------------------------------------------------- models

    def _on_event(self, event: Event) -> None:
        self._is_connected = event == "restored"
        if not self._is_connected:  # nobody would answer; those in flight go on
            self._set({})

    def _set(self, models: dict[str, Model]) -> None:
        """These models are there now."""
        if models == self._models:
            return
        self._models = models
        self._seen.update(models)
        self._has_changed.set()
        self._has_changed = asyncio.Event()
        self._config.changed()

    async def _look_around(self, connection: Connection) -> None:
        """See the models whose workers are registered already, as long as that does not take long."""
        if self._settings.discovery == "kubernetes":
            return
        names = {card.name for card in await cards(self._settings)}
        end = asyncio.get_running_loop().time() + _at_first
        while asyncio.get_running_loop().time() < end:
            await self._look(connection)
            if names <= {*self._models, *self._unusable}:
                return
            await asyncio.sleep(0.02)

    async def _look_for_ever(self, connection: Connection) -> None:
        """Keep the models up to date, and the frontend on the runtime that there is."""
        runtime = connection.runtime
        pauses = Pauses(0.2, 5.0)
        while True:
            try:
                now = await connection.wait()
                if now is not runtime:
                    self._frontend = await frontend_of(connection, self._settings)
                    runtime = now
                await self._look(connection)
                pauses = Pauses(0.2, 5.0)
                await asyncio.sleep(_between_looks)
            except Exception as error:
                _log.warning("looking for the cluster's models failed: %s", error)
                await asyncio.sleep(pauses.take())

    async def _look(self, connection: Connection) -> None:
        assert self._frontend is not None
        runtime = connection.runtime
        names = self._frontend.names()
        for name, known in self._models.items():
            if name not in names and isinstance(known, TokenModel):
                self._gone[name] = known
        self._unusable = {name: why for name, why in self._unusable.items() if name in names}
        models: dict[str, Model] = {}
        new: list[str] = []
        for name in names:
            routed = self._frontend.model(name)
            if routed is not None and routed is not self._gone.get(name):
                self._gone.pop(name, None)
                models[name] = routed
            elif name in self._models:
                models[name] = self._models[name]
            elif name not in self._unusable:
                new.append(name)
        if new:
            models.update(await self._others(connection, new))
        self._unusable = {name: why for name, why in self._unusable.items() if name not in models}
        if connection.is_connected and connection.runtime is runtime:  # not lost meanwhile
            self._set(models)

    async def _others(self, connection: Connection, names: list[str]) -> dict[str, Model]:
        """Models that Dynamo makes no router for, and those that are back with the router that they had."""
        if self._settings.discovery == "kubernetes":
            returned: dict[str, Model] = {name: self._gone.pop(name) for name in names if name in self._gone}
            self._unusable |= dict.fromkeys(
                [name for name in names if name not in returned],
                'with the "discovery" "kubernetes" only chat models of token ids can be used',
            )
            return returned
        found: dict[str, Model] = {}
        refused: dict[str, str] = {}
        routable: set[str] = set()
        for card in await cards(self._settings):
            if card.name not in names or card.name in found:
                continue
            if card.input == "Text":
                found[card.name] = await TextModel.open(
                    connection.core, connection.runtime, card, self._settings.router
                )
            elif card.input == "Tokens" and "Chat" in card.kinds:
                routable.add(card.name)  # when Dynamo has made its router
                if card.name in self._gone:
                    found[card.name] = self._gone.pop(card.name)
            else:
                refused[card.name] = (
                    f'the model "{card.name}" of the cluster takes {card.input} and is for '
                    f"{card.kinds or 'nothing'}; usable are models that take tokens and are for chats, and "
                    f"those that take text"
                )
        self._unusable |= {name: why for name, why in refused.items() if name not in routable}
        return found
