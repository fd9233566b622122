# SPDX-License-Identifier: Apache-2.0
"""Engines whose packages are not installed."""

from typing import Any

import pytest
from conftest import run_python


@pytest.mark.parametrize(
    ("engine", "options", "module", "words"),
    [
        ("openai", {"base_url": "http://127.0.0.1:1/v1"}, "httpx2", "httpx2<3,>=2.14'"),
        (
            "dynamo-backend",
            {"class": "some:Class"},
            "dynamo",
            "'ai-dynamo-runtime<1.8,>=1.6.1' 'msgspec>=0.19'",
        ),
        ("dynamo-backend", {"class": "some:Class"}, "dynamo", "'ai-dynamo>=1.6.1,<1.8'"),
    ],
)
def test_what_to_install(engine: str, options: dict[str, Any], module: str, words: str) -> None:
    """The error says what to install."""
    result = run_python(f"""
import sys
sys.modules[{module!r}] = None
from dynamo_llm import EngineUnavailableError, Runtime
try:
    Runtime(engine={engine!r}, options={options!r})
except EngineUnavailableError as error:
    print(error)
""")
    assert "dynamo-llm[" not in result.stdout  # the index need not have it, or has another package
    assert words in result.stdout and "pip install" in result.stdout, result.stdout + result.stderr
