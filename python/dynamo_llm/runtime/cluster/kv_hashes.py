# SPDX-License-Identifier: Apache-2.0
"""Hashes of KV blocks, as NVIDIA Dynamo computes them."""

import struct
from collections.abc import Sequence

import xxhash

from dynamo_llm.runtime.cluster import noise

#: Dynamo's seed of all hashes of blocks.
_seed = 1337
_bits = 64


def signed(value: int) -> int:
    """An unsigned number of 64 bits as the signed one with the same bits, which Dynamo's Python takes."""
    return value - (1 << _bits) if value >> (_bits - 1) else value


def block_hashes(
    token_ids: Sequence[int], block_size: int, lora_name: str | None = None, cache_salt: str | None = None
) -> list[int]:
    """A hash of 64 bits, unsigned, for each whole block of tokens. It is a function of everything up to the
    end of the block, so that equal hashes mean equal prefixes, on all workers.

    :param block_size: tokens per block.
    """
    hashes: list[int] = []
    # Dynamo's function looks at each block alone; the chain makes a prefix of it.
    for own in noise.prepare().compute_block_hash_for_seq(
        list(token_ids), block_size, lora_name=lora_name, cache_namespace=cache_salt
    ):
        chained = struct.pack("<QQ", hashes[-1], own) if hashes else b""
        hashes.append(xxhash.xxh3_64_intdigest(chained, seed=_seed) if chained else own)
    return hashes
