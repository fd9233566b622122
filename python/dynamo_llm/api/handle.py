# SPDX-License-Identifier: Apache-2.0
"""What the objects of the Python API have in common: a configuration, ``open()``, and ``with``."""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from dynamo_llm import _core
from dynamo_llm.api.interruptible import interruptible
from dynamo_llm.api.json_text import json_text
from dynamo_llm.errors import InvalidConfigError, InvalidJsonError
from dynamo_llm.runtime.threads import in_thread

Self = TypeVar("Self", bound="Handle")
Core = TypeVar("Core")


class Handle:
    """An object of the library. ``with`` closes it at the end of the block."""

    @classmethod
    async def open(cls: type[Self], config: Mapping[str, Any] | str | None = None, **keys: Any) -> Self:
        """Creates the object, from the arguments of the constructor, without blocking the event loop."""
        constructor: Any = cls
        created: Self = await in_thread(partial(constructor, config, **keys))
        return created

    def close(self) -> None:
        """Releases the object."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create(
    kind: Callable[[str], Core],
    config: Mapping[str, Any] | str | None,
    keys: Mapping[str, Any],
    construct: Callable[[str], Core] | None = None,
) -> Core:
    """Creates an object of the C library. Blocks without holding the GIL; Ctrl-C interrupts it.

    :param kind: its class in ``dynamo_llm._core``, which takes the configuration as JSON.
    :param config: the configuration, a dictionary or its JSON.
    :param keys: keys that override those of the configuration; None means absent.
    :param construct: creates the object from the JSON, and handles Ctrl-C itself; default: the class.
    :raises InvalidConfigError: the configuration cannot be written as JSON.
    :raises DynamoError: the library refuses the configuration.
    """
    if hasattr(config, "__fspath__"):
        raise InvalidConfigError(f"the configuration is a path{_model_hint(kind, config)}")
    text = config_text(config, keys)
    try:
        return construct(text) if construct is not None else interruptible(partial(kind, text))
    except InvalidJsonError as error:
        # A text that does not even look like JSON: most likely the path or the name of a model.
        if isinstance(config, str) and re.match(r"\s*[^\s{\[\"]", config):
            error.message += _model_hint(kind, config)
            error.details["message"] = error.message
            error.args = (error.message,)
        raise


def _model_hint(kind: Callable[[str], Any], given: object) -> str:
    """Returns how to give a model, if the object has one."""
    if kind not in (_core.Runtime, _core.Tokenizer):
        return ""
    name = getattr(kind, "__name__", "Runtime")
    return (
        f'; the first argument is the configuration, and a model is given as {name}(model="{given!s:.200}")'
    )


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries whose value is not None."""
    return {key: value for key, value in values.items() if value is not None}


def config_text(config: Mapping[str, Any] | str | None, keys: Mapping[str, Any]) -> str:
    """Returns a configuration as JSON.

    :param config: the configuration, a dictionary or its JSON.
    :param keys: keys that override those of the configuration; None means absent.
    :raises InvalidConfigError: the configuration cannot be written as JSON.
    """
    keys = without_none(keys)
    if isinstance(config, str):
        try:
            parsed = json.loads(config)
        except ValueError:
            return config  # the library reports the position of the mistake
        if not keys or not isinstance(parsed, dict):
            return config
        config = parsed
    return json_text({**(config or {}), **keys}, "configuration", InvalidConfigError)
