# SPDX-License-Identifier: Apache-2.0
"""What the workers of an endpoint say of their model."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

from dynamo_llm.errors import ModelNotFoundError, UnavailableError
from dynamo_llm.runtime.cluster import noise
from dynamo_llm.runtime.pipeline.folder import Folder

_pause = 0.05
#: Seconds that the workers that are there take to be seen.
_at_first = 1.0


async def wait_for_card(endpoint: Any, path: str, timeout_ms: int) -> dict[str, Any]:
    """The card of the first worker there; of those that are there already also if the time is 0.

    :param endpoint: Dynamo's.
    :param path: its, for messages.
    :raises UnavailableError: none came in time.
    """
    subscriber = noise.prepare().FpmEventSubscriber(endpoint)
    subscriber.start_tracking()
    try:
        cards = await asyncio.wait_for(_some_cards(subscriber), max(timeout_ms / 1000, _at_first))
    except asyncio.TimeoutError as error:
        raise UnavailableError(
            f'no worker with a model came to "{path}" within {timeout_ms} ms ("wait_for_workers_ms")'
        ) from error
    finally:
        subscriber.shutdown()
    card: dict[str, Any] = json.loads(next(iter(cards.values())))
    return card


async def _some_cards(subscriber: Any) -> dict[str, str]:
    while not (cards := subscriber.get_model_cards()):
        await asyncio.sleep(_pause)
    return cast("dict[str, str]", cards)


def folder_of(card: dict[str, Any]) -> Folder:
    """Where tokenizer and template of a card's model are; blocks.

    :raises ModelNotFoundError: not on this machine.
    """
    tokenizer: dict[str, Any] = next(iter((card.get("tokenizer") or {}).values()), {})
    places = [card.get("source_path"), tokenizer.get("path")]
    for place in places:
        if isinstance(place, str) and "://" not in place:
            path = Path(place)
            if path.name == "tokenizer.json" or (path / "tokenizer.json").is_file():
                return Folder(path)
    raise ModelNotFoundError(
        f'the files of the workers\' model "{card.get("display_name")}" are not on this machine '
        f'({", ".join(str(place) for place in places)}); copy them and say where in "model"'
    )
