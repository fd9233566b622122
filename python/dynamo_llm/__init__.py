# SPDX-License-Identifier: Apache-2.0
"""LLM inference for C, C++, and Python; all three call the same library.

    import dynamo_llm

    with dynamo_llm.Runtime() as runtime:
        for response in runtime.chat("What is a KV cache?"):
            print(response.text, end="", flush=True)

The package also contains the C library and its headers: see :mod:`dynamo_llm.paths` and the command
``dynamo-llm config``.
"""

from dynamo_llm import quiet_start  # noqa: F401  # first: Ctrl-C while the command imports the others

# isort: split
from dynamo_llm._core import VERSION as __version__
from dynamo_llm._core import ChosenWorker, Response, Selection, Timing, Usage
from dynamo_llm.errors import (
    CancelledError,
    ClosedError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    EngineNotFoundError,
    EngineUnavailableError,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    InvalidConfigError,
    InvalidHandleError,
    InvalidJsonError,
    InvalidRequestError,
    InvalidStateError,
    ModelNotFoundError,
    NotSupportedError,
    OutOfMemoryError,
    OverloadedError,
    PythonUnavailableError,
    SlowConsumerError,
    SystemFailedError,
    UnavailableError,
    VersionMismatchError,
)

TYPE_CHECKING = False  # as in typing, which takes long to import
if TYPE_CHECKING:
    from dynamo_llm.api.batch import Batch, BatchReport
    from dynamo_llm.api.creation import Progress
    from dynamo_llm.api.kv_publisher import KvCleared, KvPublisher, KvRemoved, KvStored
    from dynamo_llm.api.model_response import ModelResponse
    from dynamo_llm.api.pull import pull
    from dynamo_llm.api.request import Request
    from dynamo_llm.api.result import Choice, Completion, Embeddings, Logprob, ToolCall
    from dynamo_llm.api.router import Router
    from dynamo_llm.api.runtime import Runtime, config_schema
    from dynamo_llm.api.scores import Classification, RankedDocument, Ranking, Scores, TextClass
    from dynamo_llm.api.tokenizer import Detokenizer, Tokenizer
    from dynamo_llm.api.worker import Worker

__all__ = [
    "Batch",
    "BatchReport",
    "CancelledError",
    "Choice",
    "ChosenWorker",
    "Classification",
    "ClosedError",
    "Completion",
    "ContextLengthError",
    "DeadlineExceededError",
    "Detokenizer",
    "DynamoError",
    "Embeddings",
    "EngineFailedError",
    "EngineNotFoundError",
    "EngineUnavailableError",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidConfigError",
    "InvalidHandleError",
    "InvalidJsonError",
    "InvalidRequestError",
    "InvalidStateError",
    "KvCleared",
    "KvPublisher",
    "KvRemoved",
    "KvStored",
    "Logprob",
    "ModelNotFoundError",
    "ModelResponse",
    "NotSupportedError",
    "OutOfMemoryError",
    "OverloadedError",
    "Progress",
    "PythonUnavailableError",
    "RankedDocument",
    "Ranking",
    "Request",
    "Response",
    "Router",
    "Runtime",
    "Scores",
    "Selection",
    "SlowConsumerError",
    "SystemFailedError",
    "TextClass",
    "Timing",
    "Tokenizer",
    "ToolCall",
    "UnavailableError",
    "Usage",
    "VersionMismatchError",
    "Worker",
    "__version__",
    "config_schema",
    "pull",
]

#: Where the other names are: they are imported when they are first used, because most programs use few.
_modules = {
    "Batch": "api.batch",
    "BatchReport": "api.batch",
    "Choice": "api.result",
    "Classification": "api.scores",
    "Completion": "api.result",
    "Detokenizer": "api.tokenizer",
    "Embeddings": "api.result",
    "KvCleared": "api.kv_publisher",
    "KvPublisher": "api.kv_publisher",
    "KvRemoved": "api.kv_publisher",
    "KvStored": "api.kv_publisher",
    "Logprob": "api.result",
    "ModelResponse": "api.model_response",
    "Progress": "api.creation",
    "RankedDocument": "api.scores",
    "Ranking": "api.scores",
    "Request": "api.request",
    "Router": "api.router",
    "Runtime": "api.runtime",
    "Scores": "api.scores",
    "TextClass": "api.scores",
    "Tokenizer": "api.tokenizer",
    "ToolCall": "api.result",
    "Worker": "api.worker",
    "config_schema": "api.runtime",
    "pull": "api.pull",
}


def __getattr__(name: str) -> object:
    if name not in _modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_modules[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules})
