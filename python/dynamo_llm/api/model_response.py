# SPDX-License-Identifier: Apache-2.0
"""The whole answer to a body of OpenAI's Responses API."""

from typing import Any

from dynamo_llm.api.result import Completion

_last = ("response.completed", "response.incomplete")


class ModelResponse(Completion):
    """The whole answer to a body of OpenAI's Responses API."""

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items of the answer: ``reasoning``, ``message``, and ``function_call``. Append them to the
        ``input`` of the next request to continue.
        """
        items: list[dict[str, Any]] = self.json().get("output", [])
        return items

    def json(self) -> dict[str, Any]:
        """Returns OpenAI's object, a ``response``; {} without a response. It does not depend on whether the
        answer was streamed.
        """
        for response in reversed(self._responses):
            whole = response.json()
            if "events" not in whole:
                return whole
            for event in reversed(whole["events"]):
                if event["type"] in _last:
                    found: dict[str, Any] = event["response"]
                    return found
        return {}

    def __repr__(self) -> str:
        return (
            f"ModelResponse(text={self.text!r}, finish_reason={self.finish_reason!r}, usage={self.usage!r})"
        )
