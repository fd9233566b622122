# SPDX-License-Identifier: Apache-2.0
"""A worker of a cluster for tests. The answer's tokens encode their position, to reveal lost and duplicated
tokens: token 100 + position, counted from the prompt's first token. With --sequence they depend on all tokens
before them, see sequence.py. With --silent it never answers, with --stuck its Python threads hang, too.

The prompt selects other behavior: [1, k] raises ``failures[k]``, [2, ...] ends without the last token. With
--kv, prompts whose answers have two tokens are cached. With --load, it reports so many KV blocks in use. The
log has a line of JSON for each request, and one for each request that was stopped.
"""

import argparse
import asyncio
import ctypes
import itertools
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import dynamo.llm.exceptions as kinds
from dynamo._core import (
    DistributedRuntime,
    KvEventPublisher,
    ModelInput,
    ModelRuntimeConfig,
    ModelType,
    WorkerMetricsPublisher,
    WorkerType,
    compute_block_hash_for_seq,
    register_model,
)
from dynamo_llm import paths
from sequence import next_token

#: A request with the prompt [1, index] raises one of these.
failures: list[BaseException] = [
    kinds.InvalidArgument("no"),
    kinds.Disconnected("no"),
    kinds.ConnectionTimeout("no"),
    kinds.Cancelled("no"),
    kinds.Unknown("no"),
    ValueError("no"),
    KeyError("no"),
    TimeoutError("no"),
    *(
        kinds.HttpError(code, "no")
        for code in (400, 401, 403, 404, 408, 409, 413, 422, 429, 499, 500, 501, 502, 503, 504, 529)
    ),
]

block_size = 16


def say(**what: Any) -> None:
    """Writes a line of the log."""
    print(json.dumps(what), flush=True)


class Worker:
    """An endpoint with a model."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.publisher: Any = None

    async def run(self) -> None:
        """Serves until the process ends."""
        given = self.arguments
        loop = asyncio.get_running_loop()
        runtime = DistributedRuntime(
            loop,
            given.discovery,
            given.request_plane,
            event_plane=given.event_plane,
            response_plane=given.response_plane,
        )
        endpoint = runtime.endpoint(f"{given.namespace}.{given.component}.generate")
        config = ModelRuntimeConfig()
        config.total_kv_blocks = 1000
        if given.context_length:
            config.context_length = given.context_length
        serving = asyncio.ensure_future(endpoint.serve_endpoint(self.text if given.text else self.tokens))
        if given.kv:
            self.publisher = KvEventPublisher(endpoint, kv_block_size=block_size, enable_local_indexer=True)
        await register_model(
            ModelInput.Text if given.text else ModelInput.Tokens,
            ModelType.Completions if given.completions else ModelType.Chat | ModelType.Completions,
            endpoint,
            str(paths.demo_model_dir()),
            given.name,
            worker_type=WorkerType.Aggregated,
            kv_cache_block_size=block_size,
            runtime_config=config,
        )
        if given.load is not None:
            self.load = WorkerMetricsPublisher()
            await self.load.create_endpoint(endpoint)
            self.reporting = asyncio.create_task(self.report(given.load))
        say(ready=endpoint.connection_id())
        await serving
        say(ended=True)

    async def report(self, blocks: int) -> None:
        """Reports the load again and again, for clients that come later: Dynamo sends only changes."""
        for number in itertools.count():
            used = blocks + number % 2
            self.load.publish(active_decode_blocks=used, kv_used_blocks=used)
            await asyncio.sleep(0.1)

    async def tokens(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Answers token ids."""
        say(request=request, id=context.id(), metadata=dict(context.metadata.items()))
        prompt = request["token_ids"]
        if prompt[0] == 1 and len(prompt) == 2:
            raise failures[prompt[1]]
        count = request["stop_conditions"]["max_tokens"]
        if self.publisher is not None and count == 2:
            self.store(prompt)
        if self.arguments.silent:
            await asyncio.Event().wait()
        if self.arguments.stuck:
            ctypes.PyDLL(None).sleep(3600)  # with the GIL
        sequence = list(prompt)
        for number in range(count):
            await asyncio.sleep(self.arguments.delay)
            if context.is_stopped():
                say(stopped=context.id())
                return
            if number == count - 1 and prompt[0] == 2:
                return
            sequence.append(next_token(sequence) if self.arguments.sequence else 100 + len(sequence))
            item: dict[str, Any] = {"token_ids": sequence[-1:], "index": 0}
            if request["output_options"]["logprobs"] is not None:
                item["log_probs"] = [-0.5]
                item["top_logprobs"] = [[{"rank": 1, "token_id": item["token_ids"][0], "logprob": -0.5}]]
            if number == count - 1:
                item["finish_reason"] = "length"
                item["completion_usage"] = {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": count,
                    "total_tokens": len(prompt) + count,
                    "prompt_tokens_details": {"cached_tokens": 3},
                }
            yield item

    def store(self, prompt: list[int]) -> None:
        """Publishes that the prompt's blocks are cached."""
        hashes = [
            value - (1 << 64) if value >> 63 else value
            for value in compute_block_hash_for_seq(prompt, block_size)
        ]
        if hashes:
            stored = prompt[: len(hashes) * block_size]
            self.publisher.publish_stored(stored, [block_size] * len(hashes), hashes, None)

    async def text(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Answers an OpenAI request body."""
        say(request=request, id=context.id(), metadata=dict(context.metadata.items()))
        is_chat = "messages" in request
        count = request["max_tokens"]
        for number in range(count):
            await asyncio.sleep(self.arguments.delay)
            if context.is_stopped():
                say(stopped=context.id())
                return
            said = f"{number} "
            choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if number == count - 1 else None}
            choice |= {"delta": {"content": said}} if is_chat else {"text": said}
            kind = "chat.completion.chunk" if is_chat else "text_completion"
            yield {"id": "x", "object": kind, "created": 0, "model": request["model"], "choices": [choice]}


def main() -> None:
    """Reads the command line, and serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="position")
    parser.add_argument("--namespace", default="dynamo")
    parser.add_argument("--component", default="position")
    parser.add_argument("--delay", type=float, default=0.002)
    parser.add_argument("--context-length", type=int)
    parser.add_argument("--discovery", default="file")
    parser.add_argument("--request-plane", default="tcp")
    parser.add_argument("--event-plane", default="zmq")
    parser.add_argument("--response-plane", default=None)
    parser.add_argument("--load", type=int)
    for flag in ("--text", "--kv", "--completions", "--sequence", "--silent", "--stuck"):
        parser.add_argument(flag, action="store_true")
    asyncio.run(Worker(parser.parse_args(sys.argv[1:])).run())


if __name__ == "__main__":
    main()
