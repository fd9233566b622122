# SPDX-License-Identifier: Apache-2.0
"""The parser of a forced tool call."""

import asyncio
import json

import pytest
from dynamo_llm.runtime.pipeline.answer_parser import Found
from dynamo_llm.runtime.pipeline.forced_call import ForcedCallParser


def parsed(text: str, step: int) -> tuple[str, list[str], str]:
    """Returns content, names, and arguments that are found in a text, fed in pieces."""

    async def run() -> list[Found]:
        parser = ForcedCallParser()
        found = [await parser.feed(text[at : at + step], []) for at in range(0, len(text), step)]
        found.append(await parser.finish("stop", "", []))
        await parser.close()
        return found

    found = asyncio.run(run())
    functions = [call["function"] for one in found for call in one.calls]
    names = [function["name"] for function in functions if "name" in function]
    return "".join(one.content for one in found), names, "".join(one["arguments"] for one in functions)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_calls(step: int) -> None:
    text = json.dumps({"name": "f", "arguments": {"a": [1, {}], "b": "}"}})
    assert parsed(text, step) == ("", ["f"], '{"a": [1, {}], "b": "}"}')
    assert parsed(text.partition('"b"')[0], step) == ("", ["f"], '{"a": [1, {}], ')


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "text", ["I would rather not.", '{"name": "f', r'{"name": "\q", "arguments": {}}', '{"result": {}}', ""]
)
def test_text_that_is_not_a_call(text: str, step: int) -> None:
    """It is not lost."""
    assert parsed(text, step) == (text, [], "")
