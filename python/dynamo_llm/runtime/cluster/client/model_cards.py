# SPDX-License-Identifier: Apache-2.0
"""The cards of a cluster's models, which its workers have registered."""

import asyncio
import base64
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError, UnavailableError
from dynamo_llm.runtime import model_files, untrusted_json
from dynamo_llm.runtime.cluster import http_client
from dynamo_llm.runtime.cluster.servers import etcd_context
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.threads import in_thread
from dynamo_llm.runtime.urls import shown_url

_log = logging.getLogger("dynamo_llm.cluster")

#: Where cards are, and the endpoints of running workers. A worker's two keys have the same end; the adapter
#: follows in the key of a LoRA adapter's card.
_prefix, _instances = "v1/mdc/", "v1/instances/"
#: Seconds for etcd's response.
_timeout = 5.0


@dataclass(frozen=True)
class ModelCard:
    """A worker's description of its model."""

    name: str
    """The ``model`` of requests."""
    endpoint: str
    """The worker's endpoint, as ``namespace.component.endpoint``."""
    input: str
    """The kind of its requests: ``Tokens``, ``Text``, ..."""
    kinds: str
    """The APIs that it serves, such as ``Chat | Completions``."""
    content: dict[str, Any]
    """The whole card, as Dynamo stores it."""
    adapter: str | None = None
    """The LoRA adapter that the model is, of the model of the same endpoint; None for one of its own."""
    instance: int = 0
    """The worker's id in the cluster."""


async def model_cards(settings: Settings) -> list[ModelCard]:
    """Returns the cards of all running workers that are registered in the settings' namespace. (The card of a
    worker that died may stay for some seconds longer than its endpoint.)

    :raises UnavailableError: the discovery cannot be read.
    :raises NotSupportedError: it is Kubernetes, which only Dynamo itself can read.
    """
    if settings.discovery == "kubernetes":
        raise NotSupportedError('with the "discovery" "kubernetes" the cards of models cannot be read')
    if settings.discovery == "etcd":
        values = await _from_etcd(settings)
    else:
        values = await in_thread(_from_folder, settings)
    found = [_card(value) for value in values]
    return [card for card in found if card and settings.sees(card.endpoint.partition(".")[0])]


def _card(value: Any) -> ModelCard | None:
    """Returns None for a value that is not a model card: the discovery may contain anything."""
    try:
        if value.get("type", "Model") != "Model":
            return None
        content = value["card_json"]
        card = ModelCard(
            name=content["display_name"],
            endpoint=".".join(value[part] for part in ("namespace", "component", "endpoint")),
            input=content.get("model_input", "Tokens"),
            kinds=content.get("model_type") or "",
            adapter=(content.get("lora") or {}).get("name"),
            content=content,
            instance=int(value.get("instance_id") or 0),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _log.debug("the discovery has a card that cannot be read: %r", error)
        return None
    is_valid = all(isinstance(text, str) for text in (card.name, card.input, card.kinds, card.adapter or ""))
    return card if is_valid else None


def _from_folder(settings: Settings) -> list[dict[str, Any]]:
    values = []
    for file in model_files.entries(Path(settings.path) / _prefix):
        if not os.path.lexists(Path(settings.path) / _instances / _instance_of(file.name, "%2F")):
            continue
        try:
            values.append(model_files.read_json(file))
        except ModelNotFoundError as error:
            if os.path.lexists(file):  # otherwise the worker has left meanwhile
                raise UnavailableError(f"{file} is not a model card: {error.message}") from error
    return values


async def _from_etcd(settings: Settings) -> list[dict[str, Any]]:
    """Reads them through the JSON gateway of the first etcd server that responds."""
    problems = []
    for url in settings.etcd:
        try:
            return await asyncio.wait_for(_range(url, settings), _timeout)
        except asyncio.TimeoutError:
            problems.append(f"{shown_url(url)}: no complete response within {_timeout:g} s")
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{shown_url(url)}: {error or type(error).__name__}")
    raise UnavailableError(f"etcd does not list the models ({'; '.join(problems)})")


async def _range(url: str, settings: Settings) -> list[dict[str, Any]]:
    pairs = await _pairs(url, settings, _prefix)
    running = {key.removeprefix(_instances) for key in await _pairs(url, settings, _instances)}
    return [
        untrusted_json.parse(text)
        for key, text in pairs.items()
        if _instance_of(key.removeprefix(_prefix), "/") in running
    ]


def _instance_of(key: str, separator: str) -> str:
    """Returns the end of the key of the endpoint that a card belongs to."""
    return separator.join(key.split(separator)[:4])  # namespace, component, endpoint, and id


async def _pairs(url: str, settings: Settings, prefix: str) -> dict[str, str]:
    """Returns the keys with a prefix that ends in "/", and their values."""
    body = {"key": _encoded(prefix), "range_end": _encoded(prefix[:-1] + "0")}
    answer = await _post(url, settings, "/v3/kv/range", body)
    decode = base64.b64decode
    return {decode(pair["key"]).decode(): decode(pair["value"]).decode() for pair in answer.get("kvs", [])}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _post(url: str, settings: Settings, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    login = settings.planes.etcd
    if login and login.username and login.password and path != "/v3/auth/authenticate":
        name = {"name": login.username, "password": login.password.reveal()}
        token = (await _post(url, settings, "/v3/auth/authenticate", name))["token"]
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ValueError("the token is not a line of ASCII")
        headers["Authorization"] = token
    text = await http_client.fetch(url, 2379, path, etcd_context(settings), json.dumps(body), headers)
    answer = untrusted_json.parse(text)
    if not isinstance(answer, dict):
        raise ValueError("the response is not a JSON object")
    return answer
