# SPDX-License-Identifier: Apache-2.0
"""Renders chat templates as engines do: in a child process."""

from collections.abc import Mapping
from typing import Any

from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline.renderer import Renderer

_kept: list[Renderer] = []


def renderer(sources: Mapping[str, str], special_tokens: Mapping[str, Any]) -> Renderer:
    """Returns a renderer of a model's templates that also trusts templates in requests."""
    settings = TemplateSettings(trusts_requests=True)
    if not _kept:  # keeps the child process alive for the next test
        _kept.append(Renderer({"default": ""}, {}, settings))
    return Renderer(sources, special_tokens, settings)
