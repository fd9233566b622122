# SPDX-License-Identifier: Apache-2.0
"""Maps exceptions of mistral.rs to errors: the model, the configuration, or the request is wrong."""

import re

from dynamo_llm.errors import (
    ContextLengthError,
    DynamoError,
    EngineFailedError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.runtime.rust_panic import is_rust_panic

#: Beginnings of messages caused by the request. mistral.rs raises ValueError whatever the cause.
_about_requests = (
    "Failed to parse JSON schema",
    "Invalid grammar",
    "Token ID ",
    "lexer error",
    "max_tokens must be",
)
#: Parts of messages caused by the model's files.
_about_files = re.compile(
    r"shape mismatch|[Mm]issing required tensor|cannot find tensor|invalid type: |missing field |"
    r"GGUF metadata `|Native `.*` config cannot|Cannot derive `|unknown variant |"
    r"expected value at line |invalid value: |duplicate field |did not match any variant"
    r"|reading checkpoint tensor inventory"
)
#: The beginning of a Rust backtrace, or of a parser's state.
_internals = re.compile(r"\n(<state>|\s*\d+: )")


def is_paging_unavailable(error: BaseException) -> bool:
    """Whether the device, which mistral.rs checks first, or the model does not support PagedAttention."""
    return "paged attention" in str(error).lower().replace("pagedattention", "paged attention")


def _message(error: BaseException) -> str:
    """Returns the message without internals, which stay in the traceback, in the error details."""
    return _internals.split(str(error), maxsplit=1)[0].strip()


def of_load(path: object, error: BaseException) -> DynamoError:
    """Returns the error for a model that could not be loaded."""
    text = _message(error)
    if text.startswith("ISQ type"):
        return InvalidConfigError(f'"options.isq" of the configuration: {text}')
    if is_paging_unavailable(error):
        return InvalidConfigError(f'"options.paged_attn" of the configuration: {text}')
    if text.startswith("Unknown normal-model GGUF architecture") or "cannot represent GGUF" in text:
        return NotSupportedError(f'mistral.rs does not support "{path}": {text}')
    if _about_files.search(text):
        return ModelNotFoundError(f'mistral.rs cannot load "{path}": {text}')
    return DynamoError(f'mistral.rs cannot load "{path}": {text}')


def of_trial(path: object, error: BaseException) -> DynamoError:
    """Returns the error for a model that mistral.rs can load, but cannot compute."""
    return NotSupportedError(f'mistral.rs loads "{path}", but cannot compute it: {_message(error)}')


def of_images(error: BaseException) -> DynamoError:
    """Returns the error for images that mistral.rs cannot decode."""
    return InvalidRequestError(
        f"mistral.rs cannot decode an image of the request: {_message(error)}; the file is damaged, or "
        "is of a variant of its format that is not supported"
    )


def of_request(error: BaseException, context: int | None) -> DynamoError:
    """Returns the error for a request: it is the engine's own, unless the request is known to be the cause.

    :param context: the model's context length in tokens, if known.
    """
    text = _message(error)
    if is_rust_panic(error):
        return EngineFailedError(f"mistral.rs panicked: {text}")
    if "equence length" in text:
        return ContextLengthError(f"the prompt is longer than the model's context of {context} tokens")
    if "NoExtensionBias" in text:  # llguidance: no next token is allowed, and neither is the end
        return InvalidRequestError(
            "the request's schema, regular expression or grammar cannot be satisfied: it allows no next token"
        )
    if text.startswith(_about_requests):
        return InvalidRequestError(f"mistral.rs refuses the request: {text}")
    return EngineFailedError(f"mistral.rs failed: {text}")
