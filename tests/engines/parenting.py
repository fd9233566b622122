# SPDX-License-Identifier: Apache-2.0
"""An engine with a child process, and the module that runs in it."""

import json
import os
import socket
import sys
from typing import Any


class Parent:
    """The prompt is a module for the child to import; answered by what the child says of itself."""

    def __init__(self, config: Any) -> None: ...

    def start(self) -> None:
        """Start the child."""
        from dynamo_llm.runtime.child import Child

        self._child = Child("parenting", name="parenting", arguments=["a", {"b": 1}])
        self._child.start()

    def stop(self) -> None:
        """Stop the child."""
        self._child.stop()

    def generate(self, request: Any) -> Any:
        """Ask the child."""
        self._child.channel.sendall(request.body["prompt"].encode() + b"\n")
        with self._child.channel.makefile() as lines:
            said = json.loads(lines.readline())
        yield {"text": json.dumps({**said, "parent": os.getpid()})}


def serve(channel: socket.socket, arguments: Any) -> None:
    """Answer each line, which names a module to import."""
    for line in channel.makefile():
        module = __import__(line.strip())
        said = {
            "parent": os.getppid(),
            "module": module.__file__,
            "arguments": arguments,
            "prefix": sys.prefix,
            "package": sys.modules["dynamo_llm"].__path__[0],
        }
        channel.sendall(json.dumps(said).encode() + b"\n")
