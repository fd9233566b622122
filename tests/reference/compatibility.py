# SPDX-License-Identifier: Apache-2.0
"""Rows of the tables in docs/compatibility.md."""

import json
import os
from typing import Literal


def compatibility(
    kind: Literal["architecture", "template", "tokenizer"],
    name: str,
    result: str,
    detail: str = "",
    **columns: str,
) -> None:
    """Write how something of others' compares with transformers.

    A line of JSON, at the end of the file that the environment variable ``DYNAMO_LLM_REFERENCE`` names, if it
    names one.

    :param kind: the table.
    :param name: what was compared: an architecture, a family of templates, a kind of tokenizer.
    :param result: ``equal``, ``refused`` or ``differs``; how many of several comparisons were equal.
    :param detail: words of the refusal, or what differs and why.
    :param columns: what else tells rows apart: ``format`` and ``engine`` of an architecture.
    """
    path = os.environ.get("DYNAMO_LLM_REFERENCE")
    if not path:
        return
    row = {"kind": kind, "name": name, **columns, "result": result, "detail": detail}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
