# SPDX-License-Identifier: Apache-2.0
"""mistakes FILE: the same as mistakes.c, in Python.

Steps that the package's own objects leave no room for, such as sending twice, are made with the module below.
"""

import faulthandler
import json
import sys
import time
from typing import Any
from urllib.parse import unquote_to_bytes

import dynamo_llm
from dynamo_llm import _core


def seconds(word: str) -> float | None:
    """C's milliseconds, of which -1 is for ever."""
    return None if word == "-1" else int(word) / 1000


class Line:
    runtime: Any = None
    request: Any = None
    core: Any = None  # of the request
    tokenizer: Any = None

    def take(self, request: Any) -> None:
        self.request = request
        self.core = request._core

    def run(self, verb: str, *words: str) -> None:
        if verb == "runtime":
            self.runtime = dynamo_llm.Runtime(words[0])
        elif verb == "ask":
            self.take(self.runtime.request(json.loads(words[0])))
        elif verb == "ask_within":
            first, total = map(seconds, words[:2])
            body = json.loads(words[2])
            self.take(self.runtime.request(body, timeout=total, first_token_timeout=first))
        elif verb == "request":
            self.core = _core.Request(words[0])
        elif verb == "deadlines":
            self.core.set_deadlines(*map(int, words))
        elif verb == "send":
            self.runtime._core.send(self.core)
        elif verb == "cancel":
            self.core.cancel()
        elif verb == "shutdown":
            self.runtime.shutdown(seconds(words[0]))
        elif verb == "settle":
            while self.core.status == _core.STATUSES["DYNAMO_PENDING"]:
                time.sleep(0.001)
        elif verb == "receive":
            if self.request is not None:
                for _ in self.request:
                    pass
            else:
                while self.core.receive(-1)[1] is not None:
                    pass
        elif verb == "tokenizer":
            self.tokenizer = dynamo_llm.Tokenizer(words[0])
        elif verb == "encode":
            self.tokenizer.encode(words[0])
        elif verb == "template":
            self.tokenizer._core.apply_template(words[0])
        elif verb == "decode":
            self.tokenizer.decode([int(word) for word in words[0].split(",")])
        elif verb == "detokenize":
            self.tokenizer.detokenizer().add([int(word) for word in words[0].split(",")])
        else:
            sys.exit(f"no such step: {verb}")


def run_line(text: str) -> str:
    """What comes of it, as the other drivers print it."""
    name, *steps = text.split("\t")
    line = Line()
    for step in steps:
        verb, *words = step.split(" ")
        try:
            line.run(verb, *[unquote_to_bytes(word).decode("utf-8", "surrogatepass") for word in words])
        except dynamo_llm.DynamoError as error:
            fields = [name, verb, error.status, error.status_name, error.message, json.dumps(error.details)]
            return "\x1f".join(map(str, fields))
    return f"{name}\x1f"


faulthandler.dump_traceback_later(100, exit=True)
with open(sys.argv[1], encoding="utf-8") as table:
    for row in table:
        sys.stdout.buffer.write(run_line(row.rstrip("\n")).encode() + b"\x1e")
