# SPDX-License-Identifier: Apache-2.0
"""Hashes of KV blocks, as NVIDIA Dynamo computes them."""

import struct
from collections.abc import Sequence

import xxhash

from dynamo_llm.runtime.cluster import dynamo_import

#: Dynamo's seed of all block hashes.
_seed = 1337
_bits = 64


def signed(value: int) -> int:
    """Reinterprets an unsigned 64-bit integer as a signed one, which Dynamo's Python functions take."""
    return value - (1 << _bits) if value >> (_bits - 1) else value


def block_hashes(
    token_ids: Sequence[int], block_size: int, lora_name: str | None = None, cache_salt: str | None = None
) -> list[int]:
    """Returns an unsigned 64-bit hash for each complete block of tokens. A hash depends on everything up to
    the end of its block, so equal hashes mean equal prefixes, on all workers.

    :param block_size: tokens per block.
    """
    hashes: list[int] = []
    # Dynamo's function hashes each block alone; chaining makes prefix hashes of them.
    for own in dynamo_import.import_core().compute_block_hash_for_seq(
        list(token_ids), block_size, lora_name=lora_name, cache_namespace=cache_salt
    ):
        chained = struct.pack("<QQ", hashes[-1], own) if hashes else b""
        hashes.append(xxhash.xxh3_64_intdigest(chained, seed=_seed) if chained else own)
    return hashes
