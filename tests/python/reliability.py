# SPDX-License-Identifier: Apache-2.0
"""Rows of the table in docs/reliability.md."""

import json
import os


def reliability(what: str, how_often: int, happened: str) -> None:
    """Write what the running test did to the library, how often, and what came of it.

    A line of JSON, at the end of the file that the environment variable ``DYNAMO_LLM_RELIABILITY`` names, if
    it names one. To be called at the end of a test.
    """
    path = os.environ.get("DYNAMO_LLM_RELIABILITY")
    if not path:
        return
    name, _, test = os.environ["PYTEST_CURRENT_TEST"].partition("::")
    row = {
        "test": f"{name.rpartition('tests/')[2]}: {test.partition(' ')[0].partition('[')[0]}",
        "what": what,
        "how_often": how_often,
        "happened": happened,
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
