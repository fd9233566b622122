# SPDX-License-Identifier: Apache-2.0
"""The names of the parsers of one model: ``tool_call_parser`` and ``reasoning_parser``."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.secret import shown

_keys = ("tool_call_parser", "reasoning_parser")
#: Begins the name of a parser of vLLM, which the engine of that name has.
_vllm = "vllm:"
#: Turns off a parser that a model's description names.
_off = "off"


class ParserNames(NamedTuple):
    """The names; None: no parser."""

    tool_call: str | None = None
    reasoning: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "ParserNames":
        """Reads them from a configuration, or from an engine's description."""
        return cls(*(given.get(key) for key in _keys))

    @property
    def are_given(self) -> bool:
        """Whether there is a name."""
        return any(name is not None for name in self)

    def over(self, other: "ParserNames") -> "ParserNames":
        """Returns these names, and the other ones in place of missing ones; "off" becomes None."""
        merged = (mine if mine is not None else theirs for mine, theirs in zip(self, other, strict=True))
        return ParserNames(*(None if name == _off else name for name in merged))

    @property
    def are_of_vllm(self) -> bool:
        """Whether they name parsers of vLLM."""
        return any(name is not None and name.startswith(_vllm) for name in self)

    @property
    def bare(self) -> "ParserNames":
        """The names by which vLLM knows its parsers."""
        return ParserNames(*(name and name.removeprefix(_vllm) for name in self))

    def check_engine(self, engine: str, kind: str, has_text: bool) -> None:
        """Checks that the engine's answers can be parsed.

        :param kind: of the engine.
        :param has_text: whether the engine has a pipeline.
        :raises InvalidConfigError: its answers cannot be parsed, but a name is set.
        """
        for key, name in zip(_keys, self, strict=True):
            if name is None or name == _off:
                continue
            if name.startswith(_vllm) and engine != "vllm":
                bare = shown(name.removeprefix(_vllm))
                raise InvalidConfigError(
                    f'"{key}" of the configuration is "{_vllm}{bare}", which needs the engine "vllm", not '
                    f'"{engine}"; parsers of NVIDIA Dynamo have names without "{_vllm}"'
                )
            if self.are_of_vllm and not name.startswith(_vllm):
                raise InvalidConfigError(
                    f'"{key}" of the configuration is "{shown(name)}", a parser of NVIDIA Dynamo, but the '
                    f'other parser is one of vLLM; begin both names with "{_vllm}", or none'
                )
            if kind not in ("tokens", "models"):
                raise InvalidConfigError(
                    f'"{key}" of the configuration needs a token-level engine, but the engine "{engine}" '
                    f"answers with text, in which it finds tool calls and reasoning itself"
                )
            if not has_text:
                raise InvalidConfigError(
                    f'"{key}" of the configuration needs the pipeline, which is "off" in the configuration'
                )
