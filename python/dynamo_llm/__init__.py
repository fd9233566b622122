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
