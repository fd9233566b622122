# SPDX-License-Identifier: Apache-2.0
"""The configuration's ``cluster.router`` as Dynamo's RouterMode."""

from typing import Any

from dynamo_llm.runtime.cluster.settings import Router

_names: dict[Router, str] = {
    "round_robin": "RoundRobin",
    "random": "Random",
    "power_of_two": "PowerOfTwoChoices",
    "kv": "KV",
    "least_loaded": "LeastLoaded",
    "direct": "Direct",
    "device_aware_weighted": "DeviceAwareWeighted",
}


def mode_of(core: Any, router: Router) -> Any:
    """Returns the RouterMode of a model's router.

    :param core: the module ``dynamo._core``.
    """
    return getattr(core.RouterMode, _names[router])


def mode_of_endpoint(core: Any, router: Router) -> Any:
    """Returns the RouterMode of an endpoint's client: it cannot route by token ids, so ``kv`` means
    ``round_robin``; so does ``direct``, since the caller names the instance itself.
    """
    return mode_of(core, "round_robin" if router in ("kv", "direct") else router)
