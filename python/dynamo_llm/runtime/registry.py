# SPDX-License-Identifier: Apache-2.0
"""Finds engine classes by name."""

import difflib
import importlib
from typing import TYPE_CHECKING

from dynamo_llm.errors import EngineNotFoundError, EngineUnavailableError
from dynamo_llm.runtime.engine import Engine
from dynamo_llm.runtime.secret import shown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: Group of entry points through which other packages add engines.
GROUP = "dynamo_llm.engines"

_own = {
    "dynamo": "dynamo_llm.runtime.engines.dynamo:DynamoEngine",
    "dynamo-backend": "dynamo_llm.runtime.engines.dynamo_backend:DynamoBackendEngine",
    "dynamo-endpoint": "dynamo_llm.runtime.engines.dynamo_endpoint:DynamoEndpointEngine",
    "mistralrs": "dynamo_llm.runtime.engines.mistralrs:MistralRsEngine",
    "openai": "dynamo_llm.runtime.engines.openai:OpenAIEngine",
    "transformers": "dynamo_llm.runtime.engines.transformers:TransformersEngine",
    "vllm": "dynamo_llm.runtime.engines.vllm:VllmEngine",
}
#: Extras of this package, for engines whose extra has another name.
_extras = {"dynamo-backend": "dynamo", "dynamo-endpoint": "dynamo"}
_native = ("echo", "scripted")


def _entry_points() -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points  # takes long, and engines of this package do not need it

    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """Returns the names of all engines, those built into the library included, sorted."""
    return sorted({*_own, *_native, *_entry_points()})


def extra(name: str) -> str:
    """Returns the extra of this package that installs what an engine needs, if it has one."""
    return _extras.get(name, name)


def find(name: str) -> type[Engine]:
    """Returns the class of an engine. Blocks while its module is imported.

    :param name: a name of :func:`names`, or ``module:Class``.
    :raises EngineNotFoundError: no engine has that name; the message lists the known ones.
    :raises EngineUnavailableError: its module cannot be imported.
    """
    target = _own.get(name)
    words = name.rstrip(":")
    if target is None and ":" in name and shown(words) == words:  # else no module has that name
        target = name
    if target is None:
        point = _entry_points().get(name)
        if point is None:
            close = difflib.get_close_matches(name, names(), n=1)
            hint = f'did you mean "{close[0]}"? ' if close else ""
            given = name if close else shown(name)
            raise EngineNotFoundError(
                f'no engine is called "{given}"; {hint}Known engines: {", ".join(names())}; '
                f'to use a class of your own, give "module:Class"'
            )
        target = point.value
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise EngineUnavailableError(
            f'the module of engine "{shown(name)}" cannot be imported: {error}'
        ) from error
    engine = getattr(module, class_name, None)
    if not isinstance(engine, type):
        raise EngineNotFoundError(f'the module {module_name} has no class "{class_name}"')
    return engine
