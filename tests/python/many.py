# SPDX-License-Identifier: Apache-2.0
"""Defines the mark ``many(n)``: the same check for many parameters, of which the quick tests run every n-th.

It is applied in conftest.py.
"""

from collections import Counter

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest selects the tests that are not slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the other parameters of tests marked ``many`` as slow."""
    count: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("many"):
            test = item.nodeid.partition("[")[0]
            if count[test] % mark.args[0]:
                item.add_marker("slow")
            count[test] += 1
