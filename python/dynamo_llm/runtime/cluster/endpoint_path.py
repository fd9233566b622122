# SPDX-License-Identifier: Apache-2.0
"""Paths of endpoints in a cluster: ``namespace.component.endpoint``."""

from dynamo_llm.errors import InvalidConfigError


def full_path(path: str, namespace: str) -> str:
    """Returns ``namespace.component.endpoint`` for the configuration's ``endpoint``.

    :param path: with or without the namespace.
    :param namespace: the default.
    :raises InvalidConfigError: it does not have two or three components.
    """
    parts = path.removeprefix("dyn://").split(".")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidConfigError(
            f'the endpoint "{path}" must be namespace.component.endpoint, like "{namespace}.backend.generate"'
        )
    return ".".join(parts if len(parts) == 3 else [namespace, *parts])
