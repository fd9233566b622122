# SPDX-License-Identifier: Apache-2.0
"""Where in a cluster a worker serves."""

from dynamo_llm.errors import InvalidConfigError


def full_path(path: str, namespace: str) -> str:
    """``namespace.component.endpoint`` of what a configuration calls ``endpoint``.

    :param path: with the namespace or without.
    :param namespace: for one without.
    :raises InvalidConfigError: it has another number of parts.
    """
    parts = path.removeprefix("dyn://").split(".")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidConfigError(
            f'the endpoint "{path}" must be namespace.component.endpoint, like "{namespace}.backend.generate"'
        )
    return ".".join(parts if len(parts) == 3 else [namespace, *parts])
