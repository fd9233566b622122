# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo``: the models of an NVIDIA Dynamo cluster."""

import asyncio
import difflib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError, UnavailableError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster.backoff import Backoff
from dynamo_llm.runtime.cluster.client.frontend import Frontend, frontend_of
from dynamo_llm.runtime.cluster.client.model_cards import model_cards
from dynamo_llm.runtime.cluster.client.registered_models import RegisteredModels, unsupported
from dynamo_llm.runtime.cluster.client.served_model import ServedModel, can_serve
from dynamo_llm.runtime.cluster.client.text_model import TextModel
from dynamo_llm.runtime.cluster.client.token_model import TokenModel
from dynamo_llm.runtime.cluster.connection import Connection, Event, acquire
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.cluster.timeouts import stall_seconds
from dynamo_llm.runtime.engine import EngineConfig, EngineRequest, FrontendModel, FrontendTarget, ModelInfo
from dynamo_llm.runtime.options import at_least

_log = logging.getLogger("dynamo_llm.cluster")

#: Seconds between updates of the model list.
_update_interval = 0.2
#: Seconds that the start waits for models whose workers are registered already.
_start_timeout = 2.0

#: Seconds between looks for workers that get no requests: for a request that waits, and for the log.
_look_interval, _report_interval = 1.0, 10.0

_not_served = (
    "; a worker has registered it, but NVIDIA Dynamo does not serve it: set DYN_LOG=info to see the reason"
)

Model = TokenModel | TextModel | ServedModel


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    wait_for_model_ms: Annotated[int, at_least(0)] = 10000
    """How long a request whose model has no worker waits for one, in milliseconds, unless a deadline of the
    request is earlier. 0: not at all."""
    frontend: bool = True
    """Whether Dynamo's frontend in this process answers the requests that it can answer, without Python. It
    sets no limits to chat templates, which workers provide."""


class DynamoEngine:
    """A client of the cluster that the configuration's ``cluster`` describes, see
    :class:`~dynamo_llm.runtime.cluster.settings.Settings`; :class:`Options` has its options. The
    configuration's ``model`` is the cluster's name of the model for requests that specify none.
    """

    kind: Literal["models"] = "models"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        self._settings = Settings.read(config.cluster)
        self._wait = self._options.wait_for_model_ms / 1000
        self._config = config
        self._connection: Connection | None = None
        self._frontend: Frontend | None = None
        #: Answers requests over HTTP, without the library's pipeline; None: there is none.
        self._server: Frontend | None = None
        self._target: FrontendTarget | None = None
        self._models: dict[str, Model] = {}
        #: Token-level models whose workers left. They may return, or other models with their names.
        self._gone: dict[str, TokenModel] = {}
        #: The base models of LoRA adapters.
        self._bases: dict[str, str] = {}
        self._registered = RegisteredModels(
            self._settings, config.set_frontend is not None and self._options.frontend
        )
        self._seen: set[str] = set()
        self._unusable: dict[str, str] = {}
        self._has_changed = asyncio.Event()
        self._updating: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Connects, and lists the models. There may be none yet: requests wait for theirs."""
        connection = self._connection = await acquire(self._settings)
        try:
            await self._open_frontends(connection)
            await self._list_first(connection)
        except BaseException:
            await self.stop()
            raise
        self._unsubscribe = connection.subscribe(self._on_event)
        self._updating = asyncio.create_task(self._keep_updating(connection))

    async def _open_frontends(self, connection: Connection) -> None:
        self._frontend = await frontend_of(connection, self._settings)
        if self._config.set_frontend is not None and self._options.frontend:
            self._server = await frontend_of(connection, self._settings, answers=True)

    async def stop(self) -> None:
        """Disconnects."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._updating is not None:
            self._updating.cancel()
            await asyncio.gather(self._updating, return_exceptions=True)
        if self._connection is not None:
            await self._connection.release()

    def describe(self) -> ModelInfo:
        """Describes the current models."""
        served = self._target["models"] if self._target is not None else {}
        models: list[dict[str, Any]] = [
            {"id": name, **model.describe(), "frontend": name in served}
            for name, model in sorted(self._models.items())
        ]
        return {"changes": True, "models": models}

    async def find(self, request: EngineRequest) -> Model:
        """Finds the model that the request or the configuration names, or the only one; waits for it."""
        asked = request.body.get("model")
        if asked is None or asked == self._config.name:
            asked = self._config.model
        clock = asyncio.get_running_loop().time
        end = clock() + self._wait
        is_registered = False
        while True:
            try:
                if (model := self._found(asked)) is not None:
                    return model
                is_registered = await self._registered.require_usable(asked, {*self._models})
                limit = min(_look_interval, end - clock())
                return await asyncio.wait_for(self._wait_for(asked), limit)
            except asyncio.TimeoutError:
                if clock() >= end:
                    raise self._absence(asked, is_registered) from None
            except ModelNotFoundError:
                if asked is None or not await self._registered.require_usable(asked, {*self._models}):
                    raise
                self._seen.add(asked)  # it will appear

    def _absence(self, asked: str | None, is_registered: bool) -> UnavailableError:
        what = "no model" if asked is None else f'no worker for the model "{asked}"'
        if self._connection is not None and not self._connection.is_connected:
            more = "; the connection is lost; it is being restored"
        else:
            more = _not_served if is_registered else ""
        return UnavailableError(
            f"there was {what} in {self._settings.scope} of {self._settings.address} "
            f'for {self._options.wait_for_model_ms} ms ("options.wait_for_model_ms" of the configuration)'
            f"{more}"
        )

    async def _wait_for(self, asked: str | None) -> Model:
        while (model := self._found(asked)) is None:
            await self._has_changed.wait()
        return model

    def _found(self, asked: str | None) -> Model | None:
        """Returns the model; None if it may still appear."""
        names = ", ".join(sorted([*self._models, *self._unusable]))
        if asked is None:
            if len(self._models) > 1:
                raise ModelNotFoundError(
                    f'the request does not specify "model", and the cluster has several: {names}'
                )
            return next(iter(self._models.values()), None)
        if asked in self._unusable:
            raise NotSupportedError(self._unusable[asked])
        if self._models and asked not in self._models and asked not in self._seen:
            close = difflib.get_close_matches(str(asked), sorted(self._models), n=1)
            hint = f'did you mean "{close[0]}"? ' if close else ""
            raise ModelNotFoundError(f'the cluster has no model "{asked}"; {hint}Its models: {names}')
        return self._models.get(asked)

    # ------------------------------------------------------------------------------------- models

    def _on_event(self, event: Event) -> None:
        if event == "lost":  # there are no workers; requests in flight continue
            if self._config.set_frontend is not None:
                self._target = None
                self._config.set_frontend(None)
            self._set({})

    def _set(self, models: dict[str, Model]) -> None:
        if models == self._models:
            return
        self._models = models
        self._seen.update(models)
        self._has_changed.set()
        self._has_changed = asyncio.Event()
        self._config.changed()

    async def _list_first(self, connection: Connection) -> None:
        """Lists the models whose workers are registered already, unless that takes long."""
        if self._settings.discovery == "kubernetes":
            return
        names = {card.name for card in await model_cards(self._settings)}
        end = asyncio.get_running_loop().time() + _start_timeout
        while asyncio.get_running_loop().time() < end:
            await self._update(connection)
            if names <= {*self._models, *self._unusable}:
                break
            await asyncio.sleep(0.02)
        await self._registered.report({*self._models})

    async def _keep_updating(self, connection: Connection) -> None:
        """Keeps the models up to date, and the frontend on the current runtime."""
        runtime = connection.runtime
        backoff = Backoff(0.2, 5.0)
        reported_at = asyncio.get_running_loop().time()
        while True:
            try:
                now = await connection.wait()
                if now is not runtime:
                    await self._open_frontends(connection)
                    runtime = now
                await self._update(connection)
                if asyncio.get_running_loop().time() - reported_at >= _report_interval:
                    await self._registered.report({*self._models})
                    reported_at = asyncio.get_running_loop().time()
                backoff = Backoff(0.2, 5.0)
                await asyncio.sleep(_update_interval)
            except Exception as error:
                _log.warning("updating the list of the cluster's models failed: %s", error)
                await backoff.pause()

    async def _update(self, connection: Connection) -> None:
        assert self._frontend is not None
        runtime = connection.runtime
        names = self._frontend.names()
        if self._settings.router == "kv":  # Dynamo does not list text models, which have no token ids
            names = sorted({*names, *await self._registered.text_models()})
        for name, known in self._models.items():
            if name not in names and isinstance(known, TokenModel):
                self._gone[name] = known
        self._unusable = {name: why for name, why in self._unusable.items() if name in names}
        self._bases = {name: base for name, base in self._bases.items() if name in names}
        models: dict[str, Model] = {}
        new: list[str] = []
        for name in names:
            base = self._bases.get(name)
            routed = self._frontend.model(base or name, self._wait)
            if base is not None and routed is not None:
                models[name] = routed.with_adapter(name)
            elif routed is not None and routed is not self._gone.get(name):
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
            self._set_target()

    def _set_target(self) -> None:
        """Tells the library which models the server answers for now."""
        if self._server is None or self._config.set_frontend is None:
            return
        if not self._server.port:
            if self._target is not None:
                self._target = None
                self._config.set_frontend(None)
            return
        served = {*self._server.names()} & self._models.keys()
        models = {name: model for name in served if not isinstance(model := self._models[name], TextModel)}
        names: dict[str, FrontendModel] = {
            name: {
                "name": name,
                "context_length": model.describe().get("context_length", 0),
                "vocab_size": model.vocab_size,
                "only_for": model.keys if isinstance(model, ServedModel) else [],
            }
            for name, model in models.items()
        }
        default = self._config.model or ""
        if not default and len(self._models) == 1:
            default = next(iter(self._models))
        if self._config.name is not None:  # means the default, even if the cluster has a model of this name
            names.pop(self._config.name, None)
            if default in names:
                names[self._config.name] = names[default]
        target: FrontendTarget = {
            "port": self._server.port,
            "default_model": default,
            "silence_ms": self._silence_ms(),
            "models": names,
        }
        if target != self._target:
            self._config.set_frontend(target)
            self._target = target
            self._config.changed()

    def _silence_ms(self) -> int:
        """Returns how long the server may be silent before a request's first token."""
        stall = stall_seconds()
        if stall is None or self._settings.router == "kv":  # which queues requests itself
            return 0
        # Dynamo must end the silence of a worker first: only then it puts the worker aside. The next worker
        # gets the same time.
        return (2 * math.ceil(stall) + 1) * 1000

    async def _others(self, connection: Connection, names: list[str]) -> dict[str, Model]:
        """Finds models that Dynamo creates no router for, and those that returned and keep their router."""
        if self._settings.discovery == "kubernetes":
            returned: dict[str, Model] = {name: self._gone.pop(name) for name in names if name in self._gone}
            why = 'with the "discovery" "kubernetes" only token-level chat models can be used'
            self._unusable |= {name: why for name in names if name not in returned}
            return returned
        found: dict[str, Model] = {}
        refused: dict[str, str] = {}
        routable: set[str] = set()
        cards = await model_cards(self._settings)
        bases = {card.endpoint: card.name for card in cards if card.adapter is None}
        for card in cards:
            if card.name not in names or card.name in found:
                continue
            if card.adapter is not None and card.input == "Tokens" and card.endpoint in bases:
                self._bases[card.name] = bases[card.endpoint]  # Dynamo has one router for both
                routable.add(card.name)
                continue
            if can_serve(card) and self._server is not None and self._server.port:
                found[card.name] = ServedModel(card)
            elif card.input == "Text":
                if self._settings.router == "kv":
                    _log.warning(
                        'the model "%s" takes text: the "router" "kv" selects its workers in turn',
                        card.name,
                    )
                found[card.name] = await TextModel.open(
                    connection.core, connection.runtime, card, self._settings.router, self._wait
                )
            elif card.input == "Tokens" and "Chat" in card.kinds:
                routable.add(card.name)  # as soon as Dynamo has created its router
                if card.name in self._gone:
                    found[card.name] = self._gone.pop(card.name)
            else:
                refused[card.name] = unsupported([card], False) or ""
        self._unusable |= {name: why for name, why in refused.items() if name not in routable}
        return found
