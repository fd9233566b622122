# SPDX-License-Identifier: Apache-2.0
"""Serves an engine with the usual Python stack for HTTP: Starlette on uvicorn with httptools. Answers are
OpenAI's server-sent events, with a JSON chunk for each token.

    python benchmarks/server.py CLASS PORT LOOP

Prints "ready" when it listens on 127.0.0.1, and ends when its stdin ends.
"""

import json
import sys
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace

import uvicorn
from engines import tokens
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route


def main(kind: str, port: str, loop: str) -> None:
    """Serves until stdin ends."""
    engine = getattr(tokens, kind)(None)

    async def complete(request: Request) -> StreamingResponse:
        body = await request.json()

        async def events() -> AsyncIterator[str]:
            async for chunk in engine.generate(SimpleNamespace(body=body)):
                answer = {
                    "id": "cmpl-1",
                    "object": "text_completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [{"index": 0, "text": chunk["text"], "logprobs": None, "finish_reason": None}],
                }
                yield f"data: {json.dumps(answer)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=int(port), loop=loop, http="httptools", log_level="warning", backlog=1024
    )
    server = uvicorn.Server(config)

    def wait_for_the_end() -> None:
        while not server.started:
            threading.Event().wait(0.01)
        print("ready", flush=True)
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
