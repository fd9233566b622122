# SPDX-License-Identifier: Apache-2.0
"""Keys of ``options`` in the configuration."""

from dataclasses import dataclass, field
from typing import Any, Literal

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    task: Literal["auto", "generate", "embed"] = "auto"
    """What the model is for; ``auto``: ``embed`` if its folder has the ``modules.json`` of
    sentence-transformers, else ``generate``."""
    dtype: Literal["auto", "f32", "f16", "bf16"] = "auto"
    """Type that weights are computed in."""
    max_seqs: int = 32
    """Requests that are decoded together; more wait."""
    prefix_cache_n: int = 16
    """Sequences whose KV cache is kept for requests with the same beginning; 0 for none."""
    isq: str | None = None
    """In-situ quantisation while loading, such as ``Q4K`` or ``Q8_0``."""
    seed: int | None = None
    """Seed of the sampler, which all requests share."""
    paged_attn: bool | None = None
    """Force PagedAttention on or off; default: on with CUDA and Metal."""
    chat_template: str | None = None
    """File with a chat template in Jinja, which replaces the model's."""
    tokenizer_json: str | None = None
    """File of the tokenizer, if the model's folder has none."""
    adapters: dict[str, Any] = field(default_factory=dict)
    """LoRA adapters: a name, which requests give as their ``model``, and the adapter's folder."""


def read(given: dict[str, Any]) -> Options:
    """The options of a configuration.

    :raises InvalidConfigError: an unknown key, a wrong type, a value out of range.
    """
    chosen = options.read(Options, given)
    for name, least in (("max_seqs", 1), ("prefix_cache_n", 0), ("seed", 0)):
        value = getattr(chosen, name)
        if value is not None and value < least:
            raise InvalidConfigError(
                f'"options.{name}" of the configuration must be at least {least}, not {value}'
            )
    for name, folder in chosen.adapters.items():
        if not name or not isinstance(folder, str):
            raise InvalidConfigError(
                '"options.adapters" of the configuration must give a folder for each name, such as '
                f'{{"mine": "/models/mine"}}, not {folder!r} for {name!r}'
            )
    return chosen
