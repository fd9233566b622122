# SPDX-License-Identifier: Apache-2.0
"""The mixed load of the soak: what a host does in a long life, all at once, each answer checked."""

import asyncio
import ctypes
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dynamo_llm
from dynamo_llm.paths import lib_dir

here = Path(__file__).resolve().parent
words = ["what", "is", "a", "token", "and", "how", "does", "decode", "stream", "it", "to", "you"]


#: What the load is made of: methods of :class:`Load`, a thread each.
parts = [
    "reader",
    "faults",
    "python",
    "tokens",
    "together",
    "callbacks",
    "creator",
    "tokenizers",
    "model",
]


def start(engine: str, **more: Any) -> dynamo_llm.Runtime:
    """A runtime; engines in Python are those of soak_engines.py."""
    if ":" in engine:
        more["python"] = {"path": [str(here)]}
    return dynamo_llm.Runtime(engine=engine, **more)


def stalling() -> dynamo_llm.Runtime:
    """One whose answers begin and never end."""
    return start("scripted", options={"script": [{"text": "a"}, {"stall": True}]})


class Load:
    """Threads that use the library until they are told to stop.

    Args:
        seed: of the choices that the threads make.
        pause: seconds that each thread sleeps between two things that it does.
        only: which of the parts; None is all of them.

    """

    def __init__(self, seed: int, pause: float, only: Sequence[str] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        #: What should not have happened, with its traceback.
        self.unexpected: list[str] = []
        self._seed = seed
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        chosen = [part for part in parts if only is None or part in only]
        self._threads = [
            threading.Thread(target=self._run, args=(getattr(self, part), number), name=f"soak-{part}")
            for number, part in enumerate(chosen)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                self.unexpected.append(f"{thread.name} did not end within 60 s")

    def _run(self, kind: Callable[[random.Random], None], number: int) -> None:
        try:
            kind(random.Random(self._seed * 1000 + number))
        except BaseException:
            self.unexpected.append(traceback.format_exc())

    def _goes_on(self) -> bool:
        return not self._stop.wait(self._pause)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _expect(self, found: Any, expected: Any) -> None:
        if found != expected:
            self.unexpected.append(
                f"{found!r} in place of {expected!r}\n" + "".join(traceback.format_stack(limit=4))
            )

    # ------------------------------------------------------------------ one thread each

    def reader(self, chance: random.Random) -> None:
        """Reads answers of the native engine: whole, slowly, or in part."""
        with start("echo", stream={"capacity": 8}) as runtime:
            while self._goes_on():
                prompt = " ".join(chance.choices(words, k=chance.randint(1, 60)))
                request = runtime.complete(prompt)
                if chance.random() < 0.3:
                    next(request)
                    request.cancel()
                    self._count("cancelled")
                elif chance.random() < 0.1:
                    del request  # nobody reads it
                    self._count("dropped")
                else:
                    text = ""
                    for response in request:
                        text += response.text
                        if chance.random() < 0.02:
                            time.sleep(0.005)
                    self._expect(text, prompt)
                    self._count("whole")

    def faults(self, chance: random.Random) -> None:
        """Errors of every kind, and deadlines."""
        with start("scripted", limits={"max_concurrent": 4, "max_queued": 2}) as runtime:
            while self._goes_on():
                name = chance.choice(["OVERLOADED", "UNAVAILABLE", "ENGINE_FAILED", "CONTEXT_LENGTH"])
                script = f'[{{"text": "a"}}, {{"error": {{"status": "DYNAMO_ERROR_{name}"}}}}]'
                try:
                    runtime.complete(script).result()
                    self._expect("no error", name)
                except dynamo_llm.DynamoError as error:
                    self._expect(error.status_name, f"DYNAMO_ERROR_{name}")
                try:
                    runtime.complete('[{"text": "a"}, {"stall": true}]', timeout=0.01).result()
                    self._expect("no error", "a deadline")
                except dynamo_llm.DeadlineExceededError:
                    pass
                for body in ({"prompt": 7}, {"prompt": "x", "unknown": 1}):
                    try:
                        runtime.request(body)
                        self._expect("no error", "invalid request")
                    except dynamo_llm.InvalidRequestError:
                        pass
                self._count("failed")

    def python(self, chance: random.Random) -> None:
        """Engines in Python, that answer and that raise."""
        with start("soak_engines:Text") as first, start("soak_engines:Threaded") as second:
            while self._goes_on():
                runtime = chance.choice([first, second])
                asked = chance.choices(words, k=chance.randint(1, 20))
                if chance.random() < 0.2:
                    asked.append("fail")
                try:
                    self._expect(runtime.complete(" ".join(asked)).result().text.split(), asked)
                    self._expect("fail" in asked, False)
                except dynamo_llm.EngineFailedError:
                    self._expect("fail" in asked, True)
                self._count("Python")

    def tokens(self, chance: random.Random) -> None:
        """An engine of tokens, with the pipeline."""
        with start("soak_engines:Tokens") as runtime, dynamo_llm.Tokenizer() as tokenizer:
            while self._goes_on():
                prompt = " ".join(chance.choices(words, k=chance.randint(1, 20)))
                text = tokenizer.decode(tokenizer.encode(prompt))
                self._expect(runtime.complete(prompt, max_tokens=500).result().text, text)
                self._count("tokens")

    def together(self, chance: random.Random) -> None:
        """Many requests on a loop of asyncio, some of them cancelled."""

        async def one(runtime: dynamo_llm.Runtime, prompt: str) -> None:
            self._expect((await runtime.complete(prompt)).text, prompt)

        async def some(runtime: dynamo_llm.Runtime, stall: dynamo_llm.Runtime) -> None:
            prompts = [" ".join(chance.choices(words, k=10)) for _ in range(8)]
            waiting = [asyncio.ensure_future(stall.complete("x")) for _ in range(2)]
            await asyncio.gather(*(one(runtime, prompt) for prompt in prompts))
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        with start("echo") as runtime, stalling() as stall:
            while self._goes_on():
                asyncio.run(some(runtime, stall))
                self._count("asyncio")

    def callbacks(self, chance: random.Random) -> None:
        """Callbacks, through the C interface."""
        c = ctypes.CDLL(str(lib_dir() / "libdynamo_llm_capi.so.1"))
        pointer = ctypes.c_void_p
        for name in ("dynamo_runtime_create", "dynamo_request_create"):
            getattr(c, name).restype = pointer
        c.dynamo_response_text.restype = ctypes.c_char_p
        event = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, ctypes.c_int32)
        release = ctypes.CFUNCTYPE(None, pointer)
        runtime = pointer(c.dynamo_runtime_create(b'{"engine": "echo"}'))
        while self._goes_on():
            prompt = " ".join(chance.choices(words, k=10))
            pieces: list[bytes] = []
            released = threading.Event()

            def on_event(
                _: int, request: int, response: int | None, status: int, pieces: Any = pieces
            ) -> None:
                if response is not None:
                    pieces.append(c.dynamo_response_text(pointer(response), None))
                    c.dynamo_free(pointer(response))

            def on_release(_: int, released: Any = released) -> None:
                released.set()

            kept = event(on_event), release(on_release)
            request = pointer(c.dynamo_request_create(f'{{"prompt": "{prompt}"}}'.encode()))
            self._expect(c.dynamo_request_set_callback(request, kept[0], None, kept[1]), 0)
            self._expect(c.dynamo_request_send(runtime, request), 0)
            self._expect(released.wait(60), True)
            c.dynamo_request_destroy(request)
            self._expect(b"".join(pieces).decode(), prompt)
            self._count("callbacks")
        c.dynamo_runtime_destroy(runtime)

    def creator(self, chance: random.Random) -> None:
        """Runtimes that come and go, some of them in the middle of an answer."""
        while self._goes_on():
            engine = chance.choice(["echo", "scripted", "soak_engines:Text", "soak_engines:Tokens"])
            with start(engine) as runtime:
                request = runtime.complete('[{"text": "a"}, {"stall": true}]', max_tokens=1000)
                if chance.random() < 0.5:
                    next(request)
            try:
                dynamo_llm.Runtime(engine="soak_engines:None", python={"path": [str(here)]})
                self._expect("no error", "engine not found")
            except dynamo_llm.DynamoError:
                pass
            self._count("runtimes")

    def tokenizers(self, chance: random.Random) -> None:
        """Tokenizers that come and go."""
        while self._goes_on():
            with dynamo_llm.Tokenizer() as tokenizer:
                text = " ".join(chance.choices(words, k=20))
                self._expect(tokenizer.decode(tokenizer.encode(text, False)), text)
                detokenizer = tokenizer.detokenizer()
                pieces = [detokenizer.add(token) for token in tokenizer.encode(text, False)]
                self._expect("".join(pieces) + detokenizer.finish(), text)
            self._count("tokenizers")
            self._stop.wait(0.2)

    def model(self, chance: random.Random) -> None:
        """The demo model, started anew now and then."""
        expected = None
        while not self._stop.is_set():
            with dynamo_llm.Runtime() as runtime:
                for _ in range(100):
                    if not self._goes_on():
                        break
                    request = runtime.chat("What is a KV cache?", max_tokens=8, temperature=0)
                    if chance.random() < 0.2:
                        request.cancel()
                        continue
                    text = request.result().text
                    expected = expected or text
                    self._expect(text, expected)
                    self._count("model")
                    self._stop.wait(0.1)
