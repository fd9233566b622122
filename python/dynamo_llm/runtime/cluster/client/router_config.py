# SPDX-License-Identifier: Apache-2.0
"""A router's settings as Dynamo's RouterConfig."""

from collections.abc import Mapping
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.cluster.client.router_mode import mode_of
from dynamo_llm.runtime.cluster.router_options import common
from dynamo_llm.runtime.cluster.settings import Router


def router_config(
    core: Any, router: Router, options: Mapping[str, Any], where: str = "cluster.router_options"
) -> Any:
    """Returns Dynamo's RouterConfig.

    :param core: the module ``dynamo._core``.
    :param options: what :func:`~dynamo_llm.runtime.cluster.router_options.read` returned.
    :param where: path of the options in the configuration, for messages.
    :raises InvalidConfigError: Dynamo's KvRouterConfig rejects the options.
    """
    shared = {key: value for key, value in options.items() if key in common}
    if router != "kv":
        return core.RouterConfig(mode_of(core, router), **shared)
    try:
        kv = core.KvRouterConfig(**{key: value for key, value in options.items() if key not in common})
    except (TypeError, ValueError) as error:
        raise InvalidConfigError(
            f'"{where}" of the configuration must be keyword arguments of Dynamo\'s KvRouterConfig or '
            f"RouterConfig: {error}"
        ) from error
    return core.RouterConfig(mode_of(core, router), kv, **shared)
