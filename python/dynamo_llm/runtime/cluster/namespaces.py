# SPDX-License-Identifier: Apache-2.0
"""The Dynamo namespaces of a process, from the configuration or the environment that Dynamo's operator sets.

During a rolling update the operator runs workers of two generations, each in a namespace of its own:
``DYN_NAMESPACE`` with the suffix ``DYN_NAMESPACE_WORKER_SUFFIX``. Clients see both by a prefix.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Namespaces:
    """Create them with :meth:`read`."""

    namespace: str
    """Namespace of the visible models, unless there is a prefix."""
    prefix: str | None
    """Beginning of the namespaces of the visible models."""
    of_endpoints: str
    """Namespace of endpoints that name none."""

    @classmethod
    def read(cls, namespace: str, prefix: str) -> "Namespaces":
        """Completes the namespaces of a configuration; an empty one is missing.

        A namespace of the configuration overrides those of the environment.
        """
        if namespace:
            return cls(namespace, prefix or None, namespace)
        found = os.environ.get("DYN_NAMESPACE") or "dynamo"
        suffix = os.environ.get("DYN_NAMESPACE_WORKER_SUFFIX")
        return cls(
            found,
            prefix or os.environ.get("DYN_NAMESPACE_PREFIX") or None,
            f"{found}-{suffix}" if suffix else found,
        )
