# SPDX-License-Identifier: Apache-2.0
"""The configuration's "tool_call_parser" and "reasoning_parser", where NVIDIA Dynamo is not installed."""

import json

import pytest
from conftest import engine, run_python
from dynamo_llm.runtime.parser_names import ParserNames

code = """
import json, sys
sys.modules["dynamo._core"] = None  # as if it were not installed
import dynamo_llm
config = json.loads({config!r})
try:
    with dynamo_llm.Runtime(config) as runtime:
        print(runtime.chat("hi").result().finish_reason)
except dynamo_llm.DynamoError as error:
    print(error.status_name, error)
"""


@pytest.mark.parametrize("key", ["tool_call_parser", "reasoning_parser"])
def test_missing_package(key: str) -> None:
    """The error names the key, the package, and the command that installs it; "off" needs no package."""
    done = run_python(code.format(config=json.dumps({**engine("tokens:Async"), key: "hermes"})))
    assert done.stdout.startswith("DYNAMO_ERROR_ENGINE_UNAVAILABLE"), done.stderr
    assert f'"{key}" of the configuration needs the Python package of NVIDIA Dynamo' in done.stdout
    assert "pip install" in done.stdout and "ai-dynamo-runtime<1.8,>=1.6.1" in done.stdout
    done = run_python(code.format(config=json.dumps({**engine("tokens:Async"), key: "off"})))
    assert done.stdout == "stop\n", done.stderr


def test_names() -> None:
    """The configuration's name counts before that of the model; "off" is none."""
    model = ParserNames("hermes", "qwen3")
    assert ParserNames(None, "granite").over(model) == ParserNames("hermes", "granite")
    assert ParserNames("off", None).over(model) == ParserNames(None, "qwen3")
    assert ParserNames.of({"tool_call_parser": "mistral"}) == ParserNames("mistral", None)
