# SPDX-License-Identifier: Apache-2.0
"""A minimal server of OpenAI's API around a runtime, sufficient for a client of streams."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dynamo_llm import Runtime
from dynamo_llm.errors import DynamoError, InvalidRequestError, NotSupportedError


class Handler(BaseHTTPRequestHandler):
    """Handles one request per connection."""

    runtime: Runtime

    def do_GET(self) -> None:
        self.answer(200, {"object": "list", "data": [{"id": "demo", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for key in ("model", "stream", "stream_options"):
            body.pop(key, None)
        try:
            request = self.runtime.request(body)
            first = request.receive()
        except DynamoError as error:
            wrong = isinstance(error, (InvalidRequestError, NotSupportedError))
            self.answer(400 if wrong else 500, {"error": {"message": error.message}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            while first is not None:
                self.wfile.write(f"data: {json.dumps(first.json())}\n\n".encode())
                first = request.receive()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:  # the client has disconnected
            request.cancel()

    def answer(self, status: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *record: Any) -> None:
        """Logs nothing."""


class Server(ThreadingHTTPServer):
    """Its threads end with the server, and many clients may connect at once."""

    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serve() -> Iterator[str]:
    """Serves the demo model. Yields the URL of the API."""
    with (
        Runtime() as runtime,
        Server(("127.0.0.1", 0), type("Bound", (Handler,), {"runtime": runtime})) as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()
