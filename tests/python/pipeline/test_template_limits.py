# SPDX-License-Identifier: Apache-2.0
"""What chat templates may cost: time, memory, and delays of other requests."""

import asyncio
import dataclasses
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import dynamo_llm
import psutil
import pytest
from conftest import engine, run
from dynamo_llm.errors import (
    CancelledError,
    DynamoError,
    InvalidRequestError,
    NotSupportedError,
    SystemFailedError,
)
from dynamo_llm.runtime import child
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline import marshalled_value, template_pool
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.runtime.pipeline.template import ChatTemplates
from reliability import reliability
from waiting import patience, wait_until

talk = {"messages": [{"role": "user", "content": "What is a KV cache?"}]}
#: Limits that a hostile template reaches soon, and a harmless one does not, even on a busy machine.
tight = TemplateSettings(timeout_ms=2000, memory_mb=128)


@pytest.fixture(scope="module", autouse=True)
def kept() -> Iterator[Renderer]:
    """A model that stays loaded, so that its worker processes stay, too."""
    yield Renderer({"default": "{{ messages[0].content }}"}, {}, TemplateSettings())


hostile = {
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a power that is not folded": "{{ (messages | length + 8) ** (9 ** 9) }}",
    "a long text": "{{ 'a' * 3000000000 }}",
    "a long list": "{{ [1] * 3000000000 }}",
    "nested loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}",
    "a text that grows": (
        "{% set ns = namespace(s='x' * 99) %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
    ),
    "a namespace that grows": (
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}"
    ),
    "center": "{{ 'a' | center(2000000000) }}",
    "format": "{{ '%2000000000d' | format(1) }}",
    "a format string": "{{ '{:>2000000000}'.format(1) }}",
    "indent": "{{ ('a\n' * 100000) | indent(100000) }}",
    "tojson": "{{ [[[1]] * 100000] | tojson(indent=100000) }}",
    "replace": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "batch": "{{ messages | batch(1000000000, 'x') | list }}",
    "sort": "{{ (range(99999) | list * 500) | sort | length }}",
    "groupby": "{{ (range(99999) | list * 500) | map('string') | list | groupby('0') | length }}",
    "macros": "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "parentheses": "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}",
    "nested blocks": "{% if a %}" * 20000 + "{% endif %}" * 20000,
    "a long sum": "{{ " + "1 + " * 100000 + "1 }}",
    "a long path": "{{ a" + ".b" * 100000 + " }}",
    "a large template": "{{ a }}" * 7_000_000,
    "a large prompt": "{{ ('a' * 1000) * 100000 }}",
    "a large error": "{{ raise_exception('a' * 100000000) }}",
    "regular expressions": (
        "{% for i in range(9999) %}{{ ('http://a.' * (1000000 + i)) | urlize | length }}{% endfor %}"
    ),
}


@pytest.mark.many(5)
@pytest.mark.parametrize("what", hostile)
def test_hostile_templates(what: str) -> None:
    """Each is stopped within its limits; the host's memory does not grow, and the next chat is answered."""
    process = psutil.Process()
    other = Renderer({"default": "{{ messages[0].content }}"}, {}, TemplateSettings())
    mine = Renderer({"default": hostile[what]}, {}, tight)
    before, start = process.memory_info().rss, time.monotonic()
    with pytest.raises(InvalidRequestError, match="template") as raised:
        mine.render(talk)
    assert time.monotonic() - start < patience
    assert len(raised.value.message) < 5000
    assert process.memory_info().rss - before < 300 << 20
    assert other.render(talk) == "What is a KV cache?"
    reliability(f"a model's chat template with {what}", 1, "the request is refused; others go on")


def test_the_error_names_the_limit() -> None:
    """The error names the limit and its key."""
    endless = Renderer({"default": hostile["nested loops"]}, {}, dataclasses.replace(tight, timeout_ms=300))
    with pytest.raises(InvalidRequestError, match=r'more than 0\.3 seconds .*"templates.timeout_ms"'):
        endless.render(talk)
    greedy = Renderer({"default": "{{ 'a' * 3000000000 }}"}, {}, tight)
    with pytest.raises(InvalidRequestError, match=r'more than 128 MiB of memory .*"templates.memory_mb"'):
        greedy.render(talk)
    large = Renderer({"default": "{{ 'a' * 70000000 }}"}, {}, TemplateSettings(timeout_ms=patience * 1000))
    with pytest.raises(InvalidRequestError, match=r"a prompt of more than 64 MiB"):
        large.render(talk)


@pytest.mark.parametrize(
    "content", ["x" * 30_000_000, "ä€" * 5_000_000, "\U0001f600" * 1_000_000, "\ud800" * 100_000]
)
def test_large_messages(content: str) -> None:
    """They are rendered completely."""
    settings = TemplateSettings(memory_mb=4096, timeout_ms=patience * 1000)
    mine = Renderer({"default": "{% for m in messages %}{{ m.content }}{% endfor %}"}, {}, settings)
    whole = (content * 2).replace("\ud800", "\ufffd")
    assert mine.render({"messages": [{"role": "user", "content": content}] * 2}) == whole


def test_the_gil_is_shared() -> None:
    """While large messages go to the worker and a large prompt returns, other threads run."""
    settings = TemplateSettings(memory_mb=4096, timeout_ms=patience * 1000)
    mine = Renderer({"default": "{% for m in messages %}{{ m.content }}{% endfor %}"}, {}, settings)
    parts = [{"type": "text", "text": "a b c"} for _ in range(200_000)]
    body = {"messages": [{"role": "user", "content": parts}, {"role": "user", "content": "é€" * 10_000_000}]}
    done = threading.Event()
    turns: list[float] = []

    def watch() -> None:
        while not done.is_set():
            turns.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.monotonic()
    mine.render(body)
    took = time.monotonic() - start
    done.set()
    thread.join()
    # No limit in milliseconds: the machine may be busy. In one piece, no other thread would run in between.
    assert len(turns) > 20, took


def test_other_models_are_not_delayed_by_slow_templates() -> None:
    """While slow templates run, other models' chats are answered."""
    settings = TemplateSettings(timeout_ms=patience * 1000)
    slow = Renderer({"default": hostile["nested loops"]}, {}, settings)
    quick = Renderer({"default": "{{ messages[0].content }}"}, {}, settings)
    has_gone = threading.Event()
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            slow.render(talk, has_gone.is_set)
        except DynamoError as error:
            ended.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert quick.render(talk) == "What is a KV cache?"
        assert not ended
    finally:
        has_gone.set()  # and cancelled requests do not keep the workers busy
        for thread in threads:
            thread.join(patience)
    assert [type(error) for error in ended] == [CancelledError] * 3


def test_a_coroutine_is_cancelled() -> None:
    """A cancelled task ends at once, and its template, too."""
    slow = Renderer({"default": hostile["nested loops"]}, {}, TemplateSettings(timeout_ms=patience * 1000))

    async def main() -> None:
        task = asyncio.create_task(slow.render_in_thread(talk))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_until(lambda: not any(worker.is_busy for worker in template_pool.pool._workers))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_worker_is_killed(kept: Renderer, how: signal.Signals) -> None:
    """After a worker was killed, the next request gets another one."""
    for _ in range(3):
        assert kept.render(talk) == "What is a KV cache?"
        for one in template_pool.pool._workers:
            one.child.kill() if how == signal.SIGKILL else os.kill(one.child.pid, how)
    assert kept.render(talk) == "What is a KV cache?"


def test_workers_end_with_the_models() -> None:
    """Without a model there are no workers, and a model without a template starts none."""
    code = """
import gc, psutil, time
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.errors import NotSupportedError
talk = {"messages": [{"role": "user", "content": "a"}]}
nothing = Renderer({}, {}, TemplateSettings())
try:
    nothing.render(talk)
except NotSupportedError:
    print(len(psutil.Process().children()))
for _ in range(3):
    one = Renderer({"default": "{{ messages[0].content }}"}, {}, TemplateSettings())
    assert one.render(talk) == "a"
    print(1 <= len(psutil.Process().children()) <= 4)  # more than one where the machine is busy
    del one
    end = time.monotonic() + 100
    while psutil.Process().children() and time.monotonic() < end:
        time.sleep(0.01)
    print(len(psutil.Process().children()), psutil.Process().num_fds() < 20)
"""
    result = run([sys.executable, "-c", code])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split("\n")[:-1] == ["0", *["True", "0 True"] * 3]


def test_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no child can be started, the error names the key; with it the host runs the template."""
    monkeypatch.setattr(child, "executables", lambda: ["/no/such/python"])
    monkeypatch.setattr(template_pool, "pool", pool := template_pool.TemplatePool())
    monkeypatch.setattr("dynamo_llm.runtime.pipeline.renderer.pool", pool)
    sources = {"default": "{{ messages[0].content }}"}
    for _ in range(2):
        with pytest.raises(SystemFailedError, match=r'(?s)/no/such/python.*"templates": {"run": "host"}'):
            Renderer(sources, {}, TemplateSettings()).render(talk)
    assert Renderer(sources, {}, TemplateSettings(run="host")).render(talk) == "What is a KV cache?"


own_templates = ["{{ 9 ** (9 ** 9) }}", "x", "", "{% if %}", "default ", "{{ messages[0].content }}"]


@pytest.mark.parametrize("run", ["process", "host"])
@pytest.mark.parametrize("template", own_templates)
def test_template_of_a_request(template: str, run: Any) -> None:
    """It is rejected, with the key that allows it; names of the model's templates are accepted."""
    mine = Renderer({"default": "d", "tool_use": "t"}, {}, TemplateSettings(run=run))
    with pytest.raises(InvalidRequestError, match=r'"trust_request_chat_template".*"default", "tool_use"'):
        mine.render({**talk, "chat_template": template})
    assert mine.render({**talk, "chat_template": "tool_use"}) == "t"
    with pytest.raises(InvalidRequestError, match=r"chat_template_kwargs\.chat_template"):
        mine.render({**talk, "chat_template_kwargs": {"chat_template": template}})


def prompt_tokens(runtime: dynamo_llm.Runtime, body: dict[str, Any]) -> int:
    """Returns the number of tokens of a request's prompt."""
    usage = runtime.request(body).result().usage
    assert usage is not None
    return int(usage.prompt_tokens)


@pytest.mark.parametrize(
    "config",
    [{}, engine("tokens:Async", options={"say": [410]}), engine("tokens:Threaded", options={"say": [410]})],
    ids=str,
)
def test_runtimes(config: dict[str, Any]) -> None:
    """The same for the default engine and for engines with the pipeline."""
    with dynamo_llm.Runtime(config) as runtime:
        body = {**talk, "max_tokens": 1}
        with pytest.raises(InvalidRequestError, match='"trust_request_chat_template": true'):
            runtime.request({**body, "chat_template": "{{ 9 ** (9 ** 9) }}"}).result()
        assert runtime.request(body).result().usage is not None
    with dynamo_llm.Runtime(
        config, trust_request_chat_template=True, templates={"timeout_ms": 3000}
    ) as runtime:
        with pytest.raises(InvalidRequestError, match="3 seconds"):
            runtime.request({**body, "chat_template": "{{ 9 ** (9 ** 9) }}"}).result()
        count = prompt_tokens(runtime, {**body, "chat_template": "{{ messages[0].content }}"})
    with dynamo_llm.Runtime(config, trust_request_chat_template=True, templates={"run": "host"}) as runtime:
        assert count == prompt_tokens(runtime, {**body, "chat_template": "{{ messages[0].content }}"})


def test_deadline_and_cancel() -> None:
    """They end a request whose template runs; the runtime stays usable, and can be destroyed at once."""
    slow = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    config = {"trust_request_chat_template": True, "templates": {"timeout_ms": patience * 1000}}
    with dynamo_llm.Runtime(config) as runtime:
        body = {**talk, "max_tokens": 1, "chat_template": slow}
        with pytest.raises(dynamo_llm.DeadlineExceededError):
            runtime.request(body, timeout=0.3).result()
        request = runtime.request(body)
        threading.Timer(0.3, request.cancel).start()
        with pytest.raises(CancelledError):
            request.result()
        assert runtime.request({**talk, "max_tokens": 1}).result().usage is not None


def test_several_models() -> None:
    """The keys apply to each of several models, unless it has its own."""
    models = [{"name": "one", **engine("tokens:Async", options={"say": [410]})} for _ in range(2)]
    for model, name in zip(models, ("one", "two"), strict=True):
        model["name"] = name
        python = model.pop("python")
    models[1]["trust_request_chat_template"] = False
    with dynamo_llm.Runtime(models=models, python=python, trust_request_chat_template=True) as runtime:
        body = {**talk, "chat_template": "{{ messages[0].content }}"}
        assert runtime.request({**body, "model": "one"}).result().token_ids == [410]
        with pytest.raises(InvalidRequestError, match="trust_request_chat_template"):
            runtime.request({**body, "model": "two"}).result()


def test_tokenizer() -> None:
    """The tokenizer of the C interface has the same limits."""
    with dynamo_llm.Tokenizer() as tokenizer:
        with pytest.raises(InvalidRequestError, match="trust_request_chat_template"):
            tokenizer.apply_template("a", chat_template="{{ 9 ** (9 ** 9) }}")
        assert "a" in tokenizer.apply_template("a")
    with (
        dynamo_llm.Tokenizer(trust_request_chat_template=True, templates={"memory_mb": 64}) as tokenizer,
        pytest.raises(InvalidRequestError, match="64 MiB"),
    ):
        tokenizer.apply_template("a", chat_template="{{ 'a' * 3000000000 }}")


@pytest.mark.parametrize(
    ("templates", "match"),
    [
        ({"run": "elsewhere"}, r"templates\.run"),
        ({"timeout_ms": 0}, r"templates\.timeout_ms"),
        ({"memory_mb": 1}, r"templates\.memory_mb"),
        ({"memory": 1}, r"templates\.memory"),
    ],
)
def test_wrong_settings(templates: dict[str, Any], match: str) -> None:
    """Each error names the key."""
    with pytest.raises(dynamo_llm.InvalidConfigError, match=match):
        dynamo_llm.Runtime(engine="echo", templates=templates)


values: list[Any] = [
    None,
    {},
    [],
    "",
    {"a": None, "b": [True, False, 1, -1, 1.5, 10**30, "é", "\ud800", "\0"]},
    [[[[]]], {"x": {"y": {"z": [{}]}}}],
    "x" * 3_000_000,
    ["é€😀" * 500_000, {"k" * 100_000: "v" * 100_000}],
    [{"type": "text", "text": str(n)} for n in range(10_000)],
    {str(n): n for n in range(10_000)},
    list(itertools.accumulate(range(400), lambda inner, _: [inner], initial=1))[-1:],
]


@pytest.mark.parametrize("value", values, ids=range(len(values)))
def test_pieces(value: Any) -> None:
    """Values are decoded unchanged, with the order of their keys, also one after another."""
    file = BytesIO(b"".join(itertools.chain(marshalled_value.dump(value), marshalled_value.dump("end"))))
    back = marshalled_value.load(file)
    assert back == value and json.dumps(back) == json.dumps(value)
    assert marshalled_value.load(file) == "end" and marshalled_value.load(file) is None
    assert max(map(len, marshalled_value.dump(value))) < 5 << 20


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_form(seed: int) -> None:
    """Random values are decoded unchanged."""
    chance = random.Random(seed)

    def some(depth: int) -> Any:
        kind = chance.randrange(6 if depth else 4)
        if kind == 4:
            return [some(depth - 1) for _ in range(chance.randrange(400 if depth == 1 else 5))]
        if kind == 5:
            return {str(n): some(depth - 1) for n in range(chance.randrange(400 if depth == 1 else 5))}
        return (None, chance.random(), "é" * chance.randrange(300), chance.getrandbits(70))[kind]

    value = some(5)
    assert marshalled_value.load(BytesIO(b"".join(marshalled_value.dump(value)))) == value


def test_long_names(caplog: pytest.LogCaptureFixture) -> None:
    """Long names in a request do not make errors and warnings long, and warnings stop."""
    mine = Renderer({"default": "{{ messages[0].content }}"}, {}, TemplateSettings())
    with pytest.raises(InvalidRequestError, match="role") as raised:
        mine.render({"messages": [{"role": "r" * 1_000_000, "content": "a"}]})
    assert len(raised.value.message) < 5000
    for n in range(30):
        kwargs = {f"{n} {m} {'k' * 10_000}": 1 for m in range(100)}
        assert mine.render({**talk, "chat_template_kwargs": kwargs}) == "What is a KV cache?"
    assert len(caplog.records) == 100
    assert max(len(record.getMessage()) for record in caplog.records) < 5000


def test_a_model_that_cannot_be_compiled() -> None:
    """While a model's template is compiled, other models' chats are answered."""
    code = """
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline.renderer import Renderer
first = Renderer({"default": "{{ 9 ** (9 ** 9) }}"}, {}, TemplateSettings())
other = Renderer({"default": "{{ messages[0].content }}"}, {}, TemplateSettings())
print(other.render({"messages": [{"role": "user", "content": "a"}]}))
"""
    result = run([sys.executable, "-c", code])
    assert (result.returncode, result.stdout, result.stderr) == (0, "a\n", "")


def test_same_as_in_process() -> None:
    """The worker has the same output as the template in process, including errors."""
    sources = [
        "{{ messages[0].content }}{{ bos_token }}",
        "{{ raise_exception('Only this: é ' + messages[0].role) }}",
        "{{ nothing.at.all }}",
        "{% if %}",
        "{{ 1 / 0 }}",
        "{{ strftime_now('%Y') }}{{ messages | tojson(indent=2) }}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__ }}",
        "constant",
    ]
    for source in sources:
        for more in ({}, {"tools": [{}]}, {"continue_final_message": True}):
            said = []
            for templates in (
                ChatTemplates({"default": source}, {"bos_token": "<s>"}),
                Renderer({"default": source}, {"bos_token": "<s>"}, TemplateSettings()),
            ):
                try:
                    said.append((str, templates.render({**talk, **more})))
                except (InvalidRequestError, NotSupportedError) as error:
                    said.append((type(error), error.message))
            assert said[0] == said[1], source
