# SPDX-License-Identifier: Apache-2.0
"""The inputs of embedding requests, and vectors in the form that a request asks for."""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

#: Keys of an embedding request that every engine accepts, or that other layers read.
_known = (
    "dimensions",
    "encoding_format",
    "input",
    "model",
    "nvext",
    "request_id",
    "task",
    "use_activation",
    "user",
)
_trace = ("traceparent", "tracestate")

#: Texts, or lists of token ids.
Inputs = list[str] | list[list[int]]


def inputs_of(body: Mapping[str, Any], engine: str) -> Inputs:
    """Returns the inputs of an embedding request, for each of which one vector is requested.

    :param engine: name of the engine, for errors.
    :raises InvalidRequestError: the input has another form.
    :raises NotSupportedError: the request has other keys.
    """
    for key in sorted(body):
        if body[key] and key not in (*_known, *_trace):
            raise NotSupportedError(f'the engine "{engine}" does not support "{key}" of the request')
    for key in sorted((body.get("nvext") or {}).keys() - {"agent_hints", "extra_fields"}):
        raise NotSupportedError(f'the engine "{engine}" does not support "nvext.{key}" of the request')
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
    return {"object": "embedding", "index": index, "embedding": encoded(list(vector), encoding)}


def encoded(vector: Any, encoding: str | None) -> Any:
    """Returns a vector in an encoding, whatever its own is: numbers, or base64 of float32, little-endian.

    :param encoding: ``float`` (also if None) or ``base64``.
    :raises ValueError: it is neither of both.
    """
    if isinstance(vector, str) != (encoding == "base64"):
        if isinstance(vector, str):
            return list(struct.unpack(f"<{count_of(vector)}f", base64.b64decode(vector, validate=True)))
        try:
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
        except (struct.error, OverflowError, TypeError) as error:
            raise ValueError(f"it is not a vector of numbers: {error}") from None
    return vector


def count_of(vector: Any) -> int:
    """Returns the number of dimensions of a vector in either encoding.

    :raises ValueError: it is neither of both.
    """
    if isinstance(vector, list):
        return len(vector)
    if not isinstance(vector, str):
        raise ValueError("it is neither an array nor a string")
    size = len(base64.b64decode(vector, validate=True))
    if size % 4:
        raise ValueError(f"it has {size} bytes, which are not numbers of 4 bytes")
    return size // 4
