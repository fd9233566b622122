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
    """Use of the model. ``auto`` is ``embed`` if the model's folder has the ``modules.json`` of
    sentence-transformers, else ``generate``."""
    dtype: Literal["auto", "f32", "f16", "bf16"] = "auto"
    """Type that weights are computed in."""
    max_seqs: int = 32
    """Requests that are decoded together; further ones are queued."""
    prefix_cache_n: int | None = None
    """Sequences whose KV cache is kept for requests with the same prefix; 0 for none. Default: 16 with
    PagedAttention, which bounds their memory; otherwise 0, since on a CPU mistral.rs never frees them. Must
    be 0 for a model that reads images."""
    isq: str | None = None
    """In-situ quantization while loading, such as ``Q4K`` or ``Q8_0``."""
    seed: int | None = None
    """Seed of the sampler, which all requests share."""
    paged_attn: bool | None = None
    """Turns PagedAttention on or off; default: on with CUDA and Metal."""
    chat_template: str | None = None
    """File with a chat template in Jinja, which replaces the model's."""
    tokenizer_json: str | None = None
    """File of the tokenizer, if the model's folder has none."""
    adapters: dict[str, Any] = field(default_factory=dict)
    """LoRA adapters: folders by name. Requests give the name as ``model``."""


def read(given: dict[str, Any]) -> Options:
    """Reads and checks the options.

    :raises InvalidConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    chosen = options.read(Options, given)
    options.require_at_least(chosen, {"max_seqs": 1, "prefix_cache_n": 0, "seed": 0})
    for name, folder in chosen.adapters.items():
        if not name or not isinstance(folder, str):
            raise InvalidConfigError(
                '"options.adapters" of the configuration must have a folder for each name, such as '
                f'{{"mine": "/models/mine"}}, not {folder!r} for {name!r}'
            )
    return chosen
