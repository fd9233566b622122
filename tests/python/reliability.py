# SPDX-License-Identifier: Apache-2.0
"""Rows of the table in docs/reliability.md."""

import json
import os
import re


def reliability(what: str, how_often: int, happened: str) -> None:
    """Records what the running test did to the library, how often, and the result.

    Appends a line of JSON to the file named by the environment variable ``DYNAMO_LLM_RELIABILITY``, if it is
    set. Call it at the end of a test.
    """
    path = os.environ.get("DYNAMO_LLM_RELIABILITY")
    if not path:
        return
    name, _, test = os.environ["PYTEST_CURRENT_TEST"].partition("::")
    test = re.split(r"[ \[]", test)[0]  # without phase and parameters
    row = {
        "test": f"{name.rpartition('tests/')[2]}: {test}",
        "what": what,
        "how_often": how_often,
        "happened": happened,
    }
    with open(path, "ab", buffering=0) as file:  # one write per line: other processes append, too
        file.write(json.dumps(row).encode() + b"\n")
