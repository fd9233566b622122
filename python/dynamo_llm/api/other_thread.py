# SPDX-License-Identifier: Apache-2.0
"""Calls that the library's own loop answers."""

from dynamo_llm.errors import InvalidStateError


def require_other_thread(what: str) -> None:
    """Raise an error where the caller would wait for ever.

    :param what: was called: "a tokenizer".
    :raises InvalidStateError: this is the loop's own thread.
    """
    from dynamo_llm.runtime import host

    if host.is_loop_thread():
        raise InvalidStateError(
            f"{what} was called on the library's own loop, which does its work; call it in a thread: "
            "await asyncio.to_thread(...)"
        )
