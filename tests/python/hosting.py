# SPDX-License-Identifier: Apache-2.0
"""The C API through ctypes, for programs in Python that are hosts of the library."""

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dynamo_llm.paths

engines_dir = Path(__file__).resolve().parent.parent / "engines"
question = {"messages": [{"role": "user", "content": "What is a KV cache?"}]}


class Library:
    """The opened library. CDLL releases the GIL while a function runs, PyDLL does not."""

    def __init__(self, loader: Any = ctypes.CDLL) -> None:
        self.c = loader(str(dynamo_llm.paths.lib_dir() / "libdynamo_llm_capi.so.1"))
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        for name, result, arguments in (
            ("runtime_create", pointer, [text]),
            ("runtime_destroy", None, [pointer]),
            ("runtime_shutdown", ctypes.c_int32, [pointer, ctypes.c_int64]),
            ("runtime_create_async", pointer, [text, pointer, pointer, pointer]),
            ("creation_wait", ctypes.c_int32, [pointer, ctypes.c_int64]),
            ("creation_destroy", None, [pointer]),
            ("request_create", pointer, [text]),
            ("request_send", ctypes.c_int32, [pointer, pointer]),
            ("request_recv", pointer, [pointer]),
            ("request_cancel", ctypes.c_int32, [pointer]),
            ("request_status", ctypes.c_int32, [pointer]),
            ("request_error", text, [pointer]),
            ("request_destroy", None, [pointer]),
            ("response_text", text, [pointer, pointer]),
            ("status_name", text, [ctypes.c_int32]),
            ("last_status", ctypes.c_int32, []),
            ("last_error", text, []),
            ("free", None, [pointer]),
        ):
            function = getattr(self.c, "dynamo_" + name)
            function.restype = result
            function.argtypes = arguments

    def error(self) -> str:
        """Returns the name of this thread's last status, and its message."""
        return f"{self.status(self.c.dynamo_last_status())}: {self.c.dynamo_last_error().decode()}"

    def status(self, number: int) -> str:
        """Returns the name of a status, without DYNAMO_."""
        return self.c.dynamo_status_name(number).decode().removeprefix("DYNAMO_")

    def create(self, config: Any) -> int:
        """Creates a runtime."""
        runtime = self.c.dynamo_runtime_create(json.dumps(config).encode())
        assert runtime, self.error()
        return runtime

    def engine(self, name: str, **more: Any) -> int:
        """Creates a runtime with an engine in tests/engines."""
        return self.create({"engine": name, "python": {"path": [str(engines_dir)]}, **more})

    def send(self, runtime: int, body: Any) -> int:
        """Creates and sends a request."""
        request = self.c.dynamo_request_create(json.dumps(body).encode())
        assert request, self.error()
        assert self.c.dynamo_request_send(runtime, request) == 0, self.error()
        return request

    def texts(self, request: int) -> Iterator[str]:
        """Yields the texts of an answer."""
        while response := self.c.dynamo_request_recv(request):
            yield self.c.dynamo_response_text(response, None).decode()
            self.c.dynamo_free(response)

    def answer(self, runtime: int, body: Any) -> str:
        """Returns a whole answer, or the name of the error that ended it or prevented its request from being
        sent.
        """
        request = self.c.dynamo_request_create(json.dumps(body).encode())
        status = self.c.dynamo_request_send(runtime, request)
        if status != 0:
            return self.status(status)
        text = "".join(self.texts(request))
        status = self.status(self.c.dynamo_request_status(request))
        self.c.dynamo_request_destroy(request)
        return text if status == "END" else status

    def finish(self, runtime: int) -> None:
        """Shuts down a runtime; everything must end by itself."""
        assert self.c.dynamo_runtime_shutdown(runtime, -1) == 0, self.error()
        self.c.dynamo_runtime_destroy(runtime)
