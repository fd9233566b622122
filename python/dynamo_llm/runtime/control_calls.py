# SPDX-License-Identifier: Apache-2.0
"""The control calls of an engine in Python."""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dynamo_llm.errors import EngineFailedError, InvalidRequestError
from dynamo_llm.runtime.threads import in_thread


class ControlCalls:
    """The control calls of a started engine: its attribute ``calls``.

    :param name: name of the engine, for errors.
    :raises TypeError: ``calls`` is not a mapping from names to functions.
    """

    def __init__(self, engine: Any, name: str) -> None:
        self._engine = name
        functions: Any = getattr(engine, "calls", {})
        where = f"calls of {type(engine).__qualname__}"
        if not isinstance(functions, Mapping):
            raise TypeError(f"{where} must be a mapping, not {type(functions).__qualname__}")
        for key, function in functions.items():
            if not isinstance(key, str) or not re.fullmatch("[0-9A-Za-z_]+", key):
                raise TypeError(f"{where} has the name {key!r}; a name has letters, digits, and '_'")
            if not callable(function):
                raise TypeError(f"{where}[{key!r}] must be a function, not {type(function).__qualname__}")
        self._functions: Mapping[str, Callable[..., Any]] = dict(functions)

    @property
    def names(self) -> list[str]:
        """Names of the calls, sorted."""
        return sorted(self._functions)

    async def run(self, command: str) -> str:
        """Runs a call, and returns its result as JSON. On the event loop.

        :param command: ``{"name": name, "arguments": {...}}``.
        :raises InvalidRequestError: the arguments are not those of the function.
        :raises EngineFailedError: the result is not a JSON value.
        """
        given = json.loads(command)
        name, arguments = given["name"], given["arguments"]
        function = self._functions[name]
        self._check(name, function, arguments)
        if inspect.iscoroutinefunction(function):
            result = await function(**arguments)
        else:
            result = await _to_its_end(partial(function, **arguments))
            if inspect.isawaitable(result):
                result = await result
        try:
            return json.dumps(result, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EngineFailedError(
                f'the call "{name}" of the engine "{self._engine}" did not return a JSON value: {error}'
            ) from error

    def _check(self, name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            signature = inspect.signature(function)
        except ValueError:  # some functions in C do not describe their parameters
            return
        try:
            signature.bind(**arguments)
        except TypeError as error:
            takes = ", ".join(map(str, signature.parameters.values())) or "no arguments"
            raise InvalidRequestError(
                f'the call "{name}" of the engine "{self._engine}": {error}; it takes: {takes}'
            ) from None


async def _to_its_end(function: Callable[[], Any]) -> Any:
    """Runs a function in a thread. It cannot be interrupted, so a cancel takes effect when it returns: until
    then the engine is in use, and must not be stopped.
    """
    job = asyncio.ensure_future(in_thread(function))
    is_cancelled = False
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        job.exception()
        raise asyncio.CancelledError
    return job.result()
