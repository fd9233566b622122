# SPDX-License-Identifier: Apache-2.0
"""Arrays of numbers, as the library takes them."""

from array import array
from collections.abc import Sequence

from dynamo_llm.errors import InvalidArgumentError


def token_ids(ids: Sequence[int]) -> bytes:
    """Token ids.

    :raises InvalidArgumentError: one of them is none.
    """
    return _packed("I", ids, "token ids are integers from 0 to 4294967295")


def words(numbers: Sequence[int], name: str) -> bytes:
    """Unsigned numbers of 64 bits, such as hashes and ids of workers.

    :param name: what the error calls them.
    :raises InvalidArgumentError: one of them is none.
    """
    return _packed("Q", numbers, f"{name} are integers from 0 to 18446744073709551615")


def _packed(code: str, numbers: Sequence[int], rule: str) -> bytes:
    try:
        return array(code, numbers).tobytes()
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"{rule}: {error}") from error
