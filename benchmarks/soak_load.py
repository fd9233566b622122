# SPDX-License-Identifier: Apache-2.0
"""The mixed load of the soak test: everything that a long-lived host does, concurrently, with every answer
checked.
"""

import asyncio
import ctypes
import gc
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


#: The parts of the load: methods of :class:`Load`, each run in a thread.
parts = [
    "reader",
    "faults",
    "python",
    "tokens",
    "together",
    "callbacks",
    "creator",
    "dropper",
    "hostile",
    "templates",
    "tokenizers",
    "model",
]


def start(engine: str, **more: Any) -> dynamo_llm.Runtime:
    """Creates a runtime. Engines in Python are those in soak_engines.py."""
    if ":" in engine:
        more["python"] = {"path": [str(here)]}
    return dynamo_llm.Runtime(engine=engine, **more)


def stalling() -> dynamo_llm.Runtime:
    """Creates a runtime whose answers begin and never end."""
    return start("scripted", options={"script": [{"text": "a"}, {"stall": True}]})


class Load:
    """Threads that use the library until they are stopped.

    Args:
        seed: seed of the threads' random choices.
        pause: seconds that each thread sleeps between two actions.
        only: names of the parts to run; None is all of them.

    """

    def __init__(self, seed: int, pause: float, only: Sequence[str] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        #: Unexpected events, with tracebacks.
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
        """Reads answers of the native engine: completely, slowly, or in part."""
        with start("echo", stream={"capacity": 8}) as runtime:
            while self._goes_on():
                prompt = " ".join(chance.choices(words, k=chance.randint(1, 60)))
                request = runtime.complete(prompt)
                if chance.random() < 0.3:
                    next(request)
                    request.cancel()
                    self._count("cancelled")
                elif chance.random() < 0.1:
                    del request  # drop it unread
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
        """Causes errors of every kind, and deadlines."""
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
        """Uses engines in Python, which answer or raise exceptions."""
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
        """Uses a token-level engine, with the pipeline."""
        with start("soak_engines:Tokens") as runtime, dynamo_llm.Tokenizer() as tokenizer:
            while self._goes_on():
                prompt = " ".join(chance.choices(words, k=chance.randint(1, 20)))
                text = tokenizer.decode(tokenizer.encode(prompt))
                self._expect(runtime.complete(prompt, max_tokens=500).result().text, text)
                self._count("tokens")

    def together(self, chance: random.Random) -> None:
        """Sends many requests on an asyncio event loop, and cancels some of them."""

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
        """Uses callbacks, through the C API."""
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
        """Creates and closes runtimes, some of them in the middle of an answer."""
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

    def dropper(self, chance: random.Random) -> None:
        """Drops runtimes and tokenizers without closing them, some of them in a reference cycle."""
        while self._goes_on():
            runtime: dynamo_llm.Runtime | None = start(
                chance.choice(["echo", "scripted", "soak_engines:Text", "soak_engines:Tokens"])
            )
            kept: list[Any] = [runtime]
            if chance.random() < 0.7:
                request = runtime.complete('[{"text": "a"}, {"stall": true}]', max_tokens=1000)
                if chance.random() < 0.5:
                    next(request)
                kept.append(request)
                del request
            if chance.random() < 0.3:
                kept.append(dynamo_llm.Tokenizer())
            if chance.random() < 0.5:
                kept.append(kept)  # a reference cycle
            runtime = None
            del kept
            gc.collect()
            self._count("dropped runtimes")
            self._stop.wait(0.05)

    def hostile(self, chance: random.Random) -> None:
        """Sends bodies that no engine could serve. Each is rejected, and the next request is answered."""
        with dynamo_llm.Runtime() as runtime:
            while self._goes_on():
                size = chance.randint(10**6, 10**9)
                bodies: list[dict[str, Any]] = [
                    {"prompt": "a", "guided_json": {"type": "array", "minItems": size}},
                    {"prompt": "a", "guided_json": {"type": "string", "minLength": 100 * size}},
                    {"prompt": "a", "guided_regex": f"(a{{{size}}}){{{size}}}"},
                    {"prompt": "a", "guided_grammar": "root ::= " + "(" * 5000 + '"a"' + ")" * 5000},
                    {
                        "prompt": "a",
                        "guided_json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
                    },
                    {"prompt": "word " * chance.randint(50_000, 200_000)},
                    {"prompt": list(range(1, 2000)) * chance.randint(1, 20)},
                    {"prompt": "a", "stop": ["x" * 100_000] * 100},
                    {
                        "prompt": "a",
                        "logit_bias": {str(number): 1 for number in range(chance.randint(5000, 50_000))},
                    },
                    {"messages": [{"role": "user", "content": "a"}], "chat_template": "{{ 'a' * 10**9 }}"},
                ]
                try:
                    runtime.request(chance.choice(bodies)).result()
                    self._expect("an answer", "a refusal")
                except (dynamo_llm.InvalidRequestError, dynamo_llm.ContextLengthError):
                    self._count("refused")
                self._expect(runtime.complete("a", max_tokens=1).result().finish_reason, "length")

    def templates(self, chance: random.Random) -> None:
        """Sends chat templates that never end or exhaust memory: the processes that run them are killed."""
        bounds = {"timeout_ms": 300, "memory_mb": 128}
        with dynamo_llm.Runtime(trust_request_chat_template=True, templates=bounds) as runtime:
            while self._goes_on():
                number = chance.randint(1, 10**6)
                template = chance.choice(
                    [
                        f"{number}" + "{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2,
                        f"{{{{ 'a' * {10**9 + number} }}}}",
                        f"{{{{ {number} ** (9 ** 9) }}}}",
                    ]
                )
                try:
                    runtime.chat("a", max_tokens=1, chat_template=template).result()
                    self._expect("an answer", "a refusal")
                except dynamo_llm.InvalidRequestError:
                    self._count("templates stopped")
                self._stop.wait(0.5)

    def tokenizers(self, chance: random.Random) -> None:
        """Creates and closes tokenizers."""
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
        """Uses the demo model, restarted from time to time: one question many times, many others once."""
        expected, asked = None, 0
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
                    for _ in range(4):  # an unbounded cache of prompts would grow
                        asked += 1
                        other = " ".join([*chance.choices(words, k=chance.randint(1, 40)), str(asked)])
                        usage = runtime.chat(other, max_tokens=1).result().usage
                        self._expect(usage is not None and usage.completion_tokens, 1)
                    self._count("model")
                    self._stop.wait(0.1)
