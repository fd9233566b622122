# SPDX-License-Identifier: Apache-2.0
"""Log-probs in OpenAI's two shapes. mistral.rs has the text of alternatives where their bytes should be."""

import math
from typing import Any

#: Stands for minus infinity, which JSON has not: what a grammar rules out.
_least = -9999.0


def _finite(logprob: float) -> float:
    return max(logprob, _least) if not math.isnan(logprob) else _least


def of_chat(given: Any, count: int) -> dict[str, Any]:
    """A token's, for a chat.

    :param count: alternatives that were asked for.
    """
    entry = _entry(given.token, given.logprob, given.bytes)
    entry["top_logprobs"] = [
        _entry(other.bytes or "", other.logprob, (other.bytes or "").encode())
        for other in given.top_logprobs[:count]
    ]
    return {"content": [entry]}


def _entry(token: str, logprob: float, data: Any) -> dict[str, Any]:
    return {"token": token, "logprob": _finite(logprob), "bytes": None if data is None else list(data)}


def of_completion(given: Any, count: int, offset: int) -> dict[str, Any]:
    """A token's, for a completion.

    :param count: alternatives that were asked for.
    :param offset: where the token's text begins in the answer, in characters.
    """
    return {
        "tokens": [given.token],
        "token_logprobs": [_finite(given.logprob)],
        "top_logprobs": [{other.bytes or "": _finite(other.logprob) for other in given.top_logprobs[:count]}],
        "text_offset": [offset],
    }
