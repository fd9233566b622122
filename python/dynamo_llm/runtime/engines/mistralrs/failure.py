# SPDX-License-Identifier: Apache-2.0
"""What mistral.rs raises, as errors that say who is to blame."""

from dynamo_llm.errors import ContextLengthError, DynamoError, InvalidConfigError, InvalidRequestError

#: Beginnings of what the engine says when it failed itself; all that it says is a ValueError.
_own_failures = ("Received none in", "Channel was erroneously closed", "Response channel closed")


def is_panic(error: BaseException) -> bool:
    """Whether a panic of Rust arrived; its class derives from BaseException and cannot be imported."""
    return type(error).__name__ == "PanicException"


def of_load(path: object, error: BaseException) -> DynamoError:
    """The error of a model that could not be loaded."""
    text = str(error)
    if text.startswith("ISQ type"):
        return InvalidConfigError(f'"options.isq" of the configuration: {text}')
    if text.startswith("paged attention is unavailable"):
        return InvalidConfigError(f'"options.paged_attn" of the configuration: {text}')
    return DynamoError(f'mistral.rs cannot load "{path}": {text}')


def of_request(error: BaseException, context: int | None, has_begun: bool) -> DynamoError:
    """The error of a request.

    :param context: the model's context length in tokens, if it has one.
    :param has_begun: whether something of the answer has come; then it was no mistake of the caller.
    """
    text = str(error)
    if is_panic(error):
        return DynamoError(f"mistral.rs panicked: {text}")
    if "equence length" in text:
        return ContextLengthError(f"the prompt is longer than the model's context of {context} tokens")
    if text.startswith("Received an empty prompt"):
        return InvalidRequestError("the request's prompt has no tokens; it needs at least one")
    if has_begun or text.startswith(_own_failures):
        return DynamoError(f"mistral.rs failed: {text}")
    return InvalidRequestError(f"mistral.rs refuses the request: {text}")
