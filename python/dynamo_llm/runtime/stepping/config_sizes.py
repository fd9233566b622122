# SPDX-License-Identifier: Apache-2.0
"""Checks the numbers in config.json against the weights, before transformers allocates memory from them.

transformers creates as many lists and modules as config.json declares, and fills tensors that do not match
with random numbers of the declared size.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime.safetensors_file import Tensor

#: Keys that are loop counts: each iteration has at least one tensor.
_counts = re.compile(r"(.*_)?(n_|num_)?(layers?|blocks?|depth|experts)(_.*)?")
#: Parts of the names of keys that are sizes. Other numbers, such as ids and the base of RoPE, may be large.
_sizes = re.compile(
    r"size|dim|rank|head|layer|block|depth|expert|embd|inner|d_model|d_ff|d_kv|ffn|channel|group|kernel|state|"
    r"window|interval|freq|step|n_ctx|top_?k|per_tok|pattern|period|width"
)
_positions = re.compile(r"position|length|seq|window|n_ctx")
#: A quantized tensor packs up to 16 values into one.
_packed = 16
_least = 1 << 20
_most = 2**31 - 1


def check(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Checks the integers in config.json.

    :param config: the content of config.json.
    :raises ModelNotFoundError: an integer is far larger than any dimension of the weights.
    """
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for key, value in _numbers("", config):
        name = key.rpartition(".")[2]
        if _positions.search(name):
            most = _most
        elif _counts.fullmatch(name):
            most = max(len(tensors), largest, 64)
        elif _sizes.search(name):
            most = max(_packed * largest, _least)
        else:
            continue
        if abs(value) > most:
            raise ModelNotFoundError(
                f'"{key}" of config.json is {value:g}; by the shapes of the weights it can be at most {most}'
            )


def _numbers(prefix: str, value: Any) -> Iterator[tuple[str, int]]:
    """Yields all integers with their keys."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(f"{prefix}.{key}" if prefix else str(key), one)
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(prefix, one)
    elif type(value) is int:
        yield prefix, value
