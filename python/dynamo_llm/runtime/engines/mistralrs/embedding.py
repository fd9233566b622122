# SPDX-License-Identifier: Apache-2.0
"""Reads the inputs of embedding requests, and encodes the vectors as requested."""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

#: Keys of an embedding request that the engine accepts, or that other layers read.
_known = ("input", "model", "encoding_format", "dimensions", "user", "nvext", "request_id")
_trace = ("traceparent", "tracestate")

#: Texts, or lists of token ids.
Inputs = list[str] | list[list[int]]


def inputs_of(body: Mapping[str, Any]) -> Inputs:
    """Returns the inputs of an embedding request, for each of which one vector is requested.

    :raises InvalidRequestError: the input has another form.
    :raises NotSupportedError: the request has other keys.
    """
    for key in sorted(body):
        if body[key] and key not in (*_known, *_trace):
            raise NotSupportedError(f'the engine "mistralrs" does not support "{key}" of the request')
    for key in sorted((body.get("nvext") or {}).keys() - {"agent_hints", "extra_fields"}):
        raise NotSupportedError(f'the engine "mistralrs" does not support "nvext.{key}" of the request')
    given = body["input"]
    if isinstance(given, str) or are_ids(given):
        given = [given]
    if not given or not (all(isinstance(one, str) for one in given) or all(map(are_ids, given))):
        raise InvalidRequestError(
            '"input" of the request must be a text, a list of texts, a list of token ids, or a list of such '
            "lists, and none of them may be empty"
        )
    for index, one in enumerate(given):
        if not one:
            raise InvalidRequestError(f'"input[{index}]" of the request is empty')
    inputs: Inputs = given
    return inputs


def are_ids(value: Any) -> bool:
    """Whether a value is a nonempty list of token ids."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**32 for one in value)
    )


def shortened(vector: Sequence[float], dimensions: int | None, is_normal: bool) -> Sequence[float]:
    """Returns the first dimensions of a vector, for models trained for that (Matryoshka).

    :param is_normal: whether the model's vectors have length 1; then the result is normalized, too.
    :raises InvalidRequestError: the vector has fewer dimensions.
    """
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise InvalidRequestError(
            f'"dimensions" of the request is {dimensions}; the model\'s embeddings have {len(vector)}'
        )
    head = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in head)) if is_normal else 1.0
    return [value / length for value in head] if length > 0 else head


def entry(index: int, vector: Sequence[float], encoding: str | None) -> dict[str, Any]:
    """Returns an entry of OpenAI's ``data``.

    :param encoding: ``float``, or ``base64`` of float32, little-endian.
    """
    value: Any = list(vector)
    if encoding == "base64":
        value = base64.b64encode(struct.pack(f"<{len(value)}f", *value)).decode("ascii")
    return {"object": "embedding", "index": index, "embedding": value}
