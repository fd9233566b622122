# SPDX-License-Identifier: Apache-2.0
"""The card of the model that the workers of an endpoint serve."""

import asyncio
import json
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, UnavailableError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder

_poll_interval = 0.05
#: Seconds that it takes to discover workers that are live already.
_discovery_time = 1.0


async def wait_for_card(runtime: Any, path: str, timeout_ms: int) -> dict[str, Any]:
    """Waits for the first worker and returns its card. Finds live workers even if the timeout is 0.

    :param runtime: Dynamo's DistributedRuntime.
    :raises UnavailableError: no worker came in time.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + max(timeout_ms / 1000, _discovery_time)
    subscriber = dynamo_import.import_core().FpmEventSubscriber(runtime.endpoint(path))
    subscriber.start_tracking()
    try:
        while not (cards := subscriber.get_model_cards()):
            if loop.time() >= end:
                raise UnavailableError(
                    f'no worker registered a model at "{path}" within {timeout_ms} ms ("wait_for_workers_ms")'
                )
            await asyncio.sleep(_poll_interval)
    finally:
        subscriber.shutdown()
    card: dict[str, Any] = json.loads(next(iter(cards.values())))
    return card


def folder_of(card: dict[str, Any]) -> ModelFolder:
    """Finds the folder with tokenizer and template of a card's model; blocks.

    :raises ModelNotFoundError: it is not on this machine.
    """
    tokenizer: dict[str, Any] = next(iter((card.get("tokenizer") or {}).values()), {})
    places = [card.get("source_path"), tokenizer.get("path")]
    for place in places:
        if isinstance(place, str) and "://" not in place:
            path = Path(place)
            if path.name == "tokenizer.json" or model_files.exists(path / "tokenizer.json"):
                return ModelFolder(path)
    raise ModelNotFoundError(
        f'the files of the workers\' model "{card.get("display_name")}" are not on this machine '
        f'({", ".join(str(place) for place in places)}); copy them, and set "model" to their folder'
    )
