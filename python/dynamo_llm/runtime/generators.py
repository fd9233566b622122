# SPDX-License-Identifier: Apache-2.0
"""What ``generate()`` of an engine may return: an asynchronous or a plain generator."""

from typing import Any


def require_generator(returned: Any, owner: type) -> Any:
    """Returns the value if it can be iterated.

    :param returned: what ``generate()`` returned.
    :param owner: the engine's class, for the error.
    :raises TypeError: it is neither an asynchronous nor a plain iterator.
    """
    if hasattr(returned, "__aiter__") or hasattr(returned, "__iter__"):
        return returned
    raise TypeError(
        f"generate() of {owner.__qualname__} must return a generator, not {type(returned).__qualname__}"
    )
