# SPDX-License-Identifier: Apache-2.0
"""A router's ``options``, which are keyword arguments of one of Dynamo's classes."""

import inspect
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.options import unknown_key


def construct(kind: Any, options: dict[str, Any]) -> Any:
    """Creates an object of one of Dynamo's classes.

    :raises InvalidConfigError: an option is unknown or invalid.
    """
    known = inspect.signature(kind).parameters
    for key in options:
        if key not in known:
            raise InvalidConfigError(unknown_key(key, known, "options."))
    try:
        return kind(**options)
    except Exception as error:
        raise InvalidConfigError(f'"options" of the configuration: {error}') from error
