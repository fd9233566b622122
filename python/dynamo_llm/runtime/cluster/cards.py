# SPDX-License-Identifier: Apache-2.0
"""The cards of a cluster's models, as its workers have registered them."""

import asyncio
import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.errors import NotSupportedError, UnavailableError
from dynamo_llm.runtime.cluster.probe import etcd_context
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.urls import without_password

_prefix = "v1/mdc/"
#: Seconds that etcd may take to answer.
_patience = 5.0


@dataclass(frozen=True)
class Card:
    """What one worker says of its model."""

    name: str
    """What requests give as ``model``."""
    endpoint: str
    """Where the worker takes requests, as ``namespace.component.endpoint``."""
    input: str
    """What it takes: ``Tokens``, ``Text``, ..."""
    kinds: str
    """What it answers, such as ``Chat | Completions``."""
    content: dict[str, Any]
    """All of it, as Dynamo has it."""


async def cards(settings: Settings) -> list[Card]:
    """The cards of all workers that are registered in the settings' namespace.

    :raises UnavailableError: the discovery cannot be read.
    :raises NotSupportedError: it is Kubernetes, which only Dynamo itself reads.
    """
    if settings.discovery == "kubernetes":
        raise NotSupportedError('with the "discovery" "kubernetes" the cards of models cannot be read')
    read = _from_etcd if settings.discovery == "etcd" else _from_folder
    values = await asyncio.get_running_loop().run_in_executor(None, read, settings)
    found = [_card(value) for value in values if value.get("type", "Model") == "Model"]
    return [card for card in found if card.endpoint.partition(".")[0] == settings.namespace]


def _card(value: dict[str, Any]) -> Card:
    content = value["card_json"]
    return Card(
        name=content["display_name"],
        endpoint=".".join(value[part] for part in ("namespace", "component", "endpoint")),
        input=content.get("model_input", "Tokens"),
        kinds=content.get("model_type") or "",
        content=content,
    )


def _from_folder(settings: Settings) -> list[dict[str, Any]]:
    values = []
    for file in sorted((Path(settings.path) / _prefix).glob("*")):
        try:
            values.append(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:  # the worker has gone meanwhile
            continue
        except ValueError as error:
            raise UnavailableError(f"{file} is no card of a model: {error}") from error
    return values


def _from_etcd(settings: Settings) -> list[dict[str, Any]]:
    """Asks etcd's gateway for JSON, the first of the servers that answers."""
    problems = []
    for url in settings.etcd:
        try:
            answer = _ask(
                url, settings, "/v3/kv/range", {"key": _encoded(_prefix), "range_end": _encoded("v1/mdc0")}
            )
        except (OSError, ValueError) as error:
            problems.append(f"{without_password(url)}: {error}")
        else:
            return [json.loads(base64.b64decode(pair["value"])) for pair in answer.get("kvs", [])]
    raise UnavailableError(f"etcd does not list the models ({'; '.join(problems)})")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _ask(url: str, settings: Settings, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    login = settings.planes.etcd
    if login and login.username and path != "/v3/auth/authenticate":
        name = {"name": login.username, "password": login.password}
        headers["Authorization"] = _ask(url, settings, "/v3/auth/authenticate", name)["token"]
    request = urllib.request.Request(url.rstrip("/") + path, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # no proxy of the environment
        urllib.request.HTTPSHandler(context=etcd_context(settings)),
    )
    with opener.open(request, timeout=_patience) as answer:
        return json.load(answer)
