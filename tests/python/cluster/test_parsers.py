# SPDX-License-Identifier: Apache-2.0
"""NVIDIA Dynamo's parsers of tool calls and reasoning, in front of token-level engines."""

import asyncio
import ctypes
import importlib.util
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import NewCluster
from cluster_worker import Worker, post
from conftest import compile_c, dynamo_config, engine, engines_dir, patience, run, tests_dir
from dynamo_llm import Completion, Runtime
from dynamo_llm.errors import InvalidConfigError, InvalidRequestError, NotSupportedError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.cluster.parsers.dynamo_parsers import DynamoParsers
from dynamo_llm.runtime.pipeline.answer_parser import AskedChat
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from served import serve
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

sys.path.append(str(engines_dir))
import tokens  # the engines run in this process

tokenizer = Tokenizer(ModelFolder(demo_model_dir()))
both = pytest.mark.parametrize("kind", ["Async", "Threaded"])


def function(name: str, **properties: str) -> dict[str, Any]:
    """Returns a tool whose parameters have these types."""
    members = {key: {"type": kind} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": members, "required": list(members)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


tools = [function("temperature", city="string", days="integer"), function("noise")]


def call(name: str, **arguments: Any) -> str:
    """Returns a tool call in Hermes' notation."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def opened(kind: str, text: str, step: int = 1, **keys: Any) -> Runtime:
    """Returns a runtime whose engine gives the text, so many tokens at once."""
    names = {"tool_call_parser": "hermes", "reasoning_parser": "qwen3", **keys.pop("names", {})}
    say = tokenizer.core.encode(text, add_special_tokens=False).ids
    return Runtime(engine(f"tokens:{kind}", options={"say": say, "step": step, **keys}), **names)


def calls_of(answer: Completion) -> list[tuple[str, Any]]:
    """Returns names and arguments of the calls of an answer."""
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


@pytest.fixture(scope="module", autouse=True)
def keep_open() -> Iterator[None]:
    """Keeps the parsers between the tests."""
    with opened("Async", "x"):
        yield


# ------------------------------------------------------------------------------------- what is found

oslo = ("temperature", {"city": "Oslo", "days": 3})
rome = ("temperature", {"city": "Rome", "days": 1})
calling = f"Let me look.\n{call('temperature', city='Oslo', days=3)}"
answers = [
    ("Plain < 3 <b> text.", "Plain < 3 <b> text.", "", [], "stop"),
    ("<think>Hm é</think>Größe 😀", "Größe 😀", "Hm é", [], "stop"),
    (calling, "Let me look.\n", "", [oslo], "tool_calls"),
    (f"<think>Look.</think>{call(*oslo[:1], **oslo[1])}", "", "Look.", [oslo], "tool_calls"),
    (f"{calling}\n{call('temperature', city='Rome', days=1)}", None, "", [oslo, rome], "tool_calls"),
]


@both
@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(("text", "content", "reasoning", "calls", "reason"), answers)
def test_answers(
    kind: str, step: int, text: str, content: str | None, reasoning: str, calls: Any, reason: str
) -> None:
    """Streams and whole answers agree; token ids and usage are those of the whole text."""
    with opened(kind, text, step) as runtime:
        for stream in (True, False):
            answer = runtime.chat("How cold?", tools=tools, stream=stream).result()
            assert content is None or answer.text == content
            assert (answer.reasoning_content, calls_of(answer)) == (reasoning, calls)
            assert answer.finish_reason == reason
            ids = tokenizer.core.encode(text, add_special_tokens=False).ids
            assert answer.token_ids == ids
            assert answer.usage is not None and answer.usage.completion_tokens == len(ids)


def test_deltas() -> None:
    """As OpenAI's: first the id and the name, then the arguments, of each call in turn."""
    text = call("temperature", city="Oslo", days=3) + call("noise")
    with opened("Async", text) as runtime:
        pieces = [
            piece
            for response in runtime.chat("?", tools=tools)
            for choice in response.json()["choices"]
            for piece in choice["delta"].get("tool_calls", [])
        ]
    heads = [piece for piece in pieces if piece["function"].get("name")]
    assert [(head["index"], head["function"]["name"], head["type"]) for head in heads] == [
        (0, "temperature", "function"),
        (1, "noise", "function"),
    ]
    assert len({head["id"] for head in heads}) == 2 and all(head["id"] for head in heads)
    assert [piece["index"] for piece in pieces] == sorted(piece["index"] for piece in pieces)
    for index, arguments in enumerate(({"city": "Oslo", "days": 3}, {})):
        of_call = [piece["function"].get("arguments", "") for piece in pieces if piece["index"] == index]
        assert json.loads("".join(of_call)) == arguments


def test_choices() -> None:
    """Each choice has a parser of its own."""
    with opened("Async", calling) as runtime:
        answer = runtime.chat("?", tools=tools, n=3).result()
        assert len(answer.choices) == 3
        for choice in answer.json()["choices"]:
            assert choice["finish_reason"] == "tool_calls"
            assert choice["message"]["tool_calls"][0]["function"]["name"] == "temperature"


def test_reasoning_that_the_prompt_begins() -> None:
    """A template may end with the marker, so that the answer has only the end of the reasoning."""
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n"
    text = "Hm.</think>Yes."
    with opened("Async", text) as runtime:
        assert runtime.chat("?").result().reasoning_content == ""
    config = engine("tokens:Async", options={"say": tokenizer.core.encode(text).ids})
    with Runtime(config, reasoning_parser="qwen3", trust_request_chat_template=True) as runtime:
        answer = runtime.chat("?", chat_template=template).result()
        assert (answer.text, answer.reasoning_content) == ("Yes.", "Hm.")


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        ("llama3_json", '<|python_tag|>{"name": "temperature", "parameters": {"city": "Oslo", "days": 3}}'),
        ("mistral", '[TOOL_CALLS][{"name": "temperature", "arguments": {"city": "Oslo", "days": 3}}]'),
        ("pythonic", '[temperature(city="Oslo", days=3)]'),
        (
            "qwen3_coder",
            "<tool_call>\n<function=temperature>\n<parameter=city>\nOslo\n</parameter>\n"
            "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        ),
    ],
)
def test_other_notations(parser: str, text: str) -> None:
    """The name selects the notation."""
    with opened("Async", text, names={"tool_call_parser": parser}) as runtime:
        answer = runtime.chat("?", tools=tools).result()
        assert (answer.text, calls_of(answer), answer.finish_reason) == ("", [oslo], "tool_calls")


def test_many_at_once() -> None:
    """Answers that are parsed at the same time do not mix."""
    with opened("Async", f"<think>Hm.</think>{calling}") as runtime:
        requests = [runtime.chat(f"Question {number}", tools=tools) for number in range(24)]
        for request in requests:
            answer = request.result()
            assert (answer.text, answer.reasoning_content) == ("Let me look.\n", "Hm.")
            assert calls_of(answer) == [oslo]


# ------------------------------------------------------------------------------- what is left as text

malformed = [
    "Look.\n<tool_call>\n{'name': temperature}\n</tool_call>",
    "Look.\n<tool_call>\n{broken}\n</tool_call> The end < 3.",
    'Look.\n<tool_call>\n{"name": ',
    "<tool_call></tool_call>",
]


@both
@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("text", malformed)
def test_malformed_calls(kind: str, step: int, text: str) -> None:
    """Dynamo's parsers drop them; the library returns them as text, in their place."""
    with opened(kind, text, step, names={"reasoning_parser": "off"}) as runtime:
        answer = runtime.chat("?", tools=tools).result()
        assert (answer.text, answer.tool_calls, answer.finish_reason) == (text, [], "stop")


def test_malformed_call_between_good_ones() -> None:
    """No text and no call is lost."""
    bad = "<tool_call>\n{broken}\n</tool_call>"
    with opened("Async", f"{calling}\n{bad}{call('noise')} end") as runtime:
        answer = runtime.chat("?", tools=tools).result()
        assert calls_of(answer) == [oslo, ("noise", {})]
        assert answer.text.startswith("Let me look.\n") and answer.text.endswith(" end")


def test_calls_stay_text() -> None:
    """Without tools, with "none", with the parser off, and in completions."""
    with opened("Async", calling) as runtime:
        for body in ({}, {"tools": tools, "tool_choice": "none"}):
            answer = runtime.chat("?", **body).result()
            assert (answer.text, answer.tool_calls, answer.finish_reason) == (calling, [], "stop")
        assert "noise" not in tokenizer.decode(tokens.Base.requests[-1].token_ids, False)
        answer = runtime.complete("?").result()
        assert (answer.text, answer.finish_reason) == (calling, "stop")
    with opened("Async", calling, names={"tool_call_parser": "off", "reasoning_parser": "off"}) as runtime:
        answer = runtime.chat("?", tools=tools).result()
        assert (answer.text, answer.tool_calls) == (calling, [])


def test_stop_string_and_length() -> None:
    """They cut the text before it is parsed."""
    with opened("Async", f"Look.{calling}") as runtime:
        answer = runtime.chat("?", tools=tools, stop="ok.Let").result()
        assert (answer.text, answer.finish_reason) == ("Lo", "stop")
        answer = runtime.chat("?", tools=tools, max_tokens=3).result()
        assert answer.finish_reason == "length" and answer.tool_calls == []
        assert f"Look.{calling}".startswith(answer.text) and answer.text


# ------------------------------------------------------------------------------------- tool_choice


def test_parallel_tool_calls() -> None:
    """False: only the first call."""
    text = call("temperature", city="Oslo", days=3) + call("noise")
    with opened("Async", text) as runtime:
        answer = runtime.chat("?", tools=tools, parallel_tool_calls=False).result()
        assert calls_of(answer) == [oslo] and answer.finish_reason == "tool_calls"
        answer = runtime.chat("?", tools=tools, parallel_tool_calls=True).result()
        assert len(answer.tool_calls) == 2


@both
@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "temperature"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tools[0]]}},
    ],
)
def test_forced_calls(kind: str, step: int, choice: Any) -> None:
    """The engine must obey a schema, whose JSON becomes the call."""
    text = json.dumps({"name": "temperature", "arguments": oslo[1]})
    with opened(kind, text, step) as runtime:
        for stream in (True, False):
            answer = runtime.chat("?", tools=tools, tool_choice=choice, stream=stream).result()
            assert (answer.text, calls_of(answer), answer.finish_reason) == ("", [oslo], "tool_calls")
        (schema,) = (tokens.Base.requests[-1].guided or {}).values()
        names = [one["properties"]["name"]["const"] for one in schema["anyOf"]]
        assert names == (["temperature", "noise"] if choice == "required" else ["temperature"])
    with opened(kind, "I would rather not.", step) as runtime:
        answer = runtime.chat("?", tools=tools, tool_choice=choice).result()
        assert (answer.text, answer.tool_calls, answer.finish_reason) == ("I would rather not.", [], "stop")


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({"tool_choice": "required"}, InvalidRequestError, 'is "required", but the request has no "tools"'),
        ({"tools": tools, "tool_choice": "maybe"}, InvalidRequestError, 'must be "none", "auto", "required"'),
        (
            {"tools": tools, "tool_choice": {"type": "function", "function": {"name": "tempo"}}},
            InvalidRequestError,
            'names "tempo", which is not one of its tools: temperature, noise',
        ),
        ({"tools": [{"type": "custom"}]}, NotSupportedError, 'only supports "tools" of the type "function"'),
        (
            {"tools": tools, "tool_choice": "required", "response_format": {"type": "json_object"}},
            InvalidRequestError,
            "cannot demand structured output",
        ),
    ],
)
def test_mistakes(body: dict[str, Any], error: type[Exception], message: str) -> None:
    """The error says what is wrong; the engine does not get the request."""
    with opened("Async", "x") as runtime:
        count = len(tokens.Base.requests)
        with pytest.raises(error, match=message):
            runtime.chat("?", **body).result()
        assert len(tokens.Base.requests) == count


def test_tools_that_dynamo_rejects() -> None:
    """The error has Dynamo's words. The library itself checks no descriptions."""
    odd = {"type": "function", "function": {"name": "f", "description": 3}}
    with (
        opened("Async", "x") as runtime,
        pytest.raises(InvalidRequestError, match=r"Dynamo rejects the tools: .*invalid type: integer `3`"),
    ):
        runtime.chat("?", tools=[odd]).result()


def test_forced_call_without_structured_output() -> None:
    """The error names the capability that the engine lacks."""
    with (
        opened("Async", "x", info={"capabilities": []}) as runtime,
        pytest.raises(NotSupportedError, match=r'"tool_choice" .* needs the capability "json_schema"'),
    ):
        runtime.chat("?", tools=tools, tool_choice="required").result()


# ------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"tool_call_parser": "hermess"}, '"tool_call_parser" .* did you mean "hermes"'),
        (
            {"tool_call_parser": "xyz"},
            'is "xyz", which is not a parser .* Known parsers: .*hermes, .*qwen3_c',
        ),
        ({"reasoning_parser": "deepsek_r1"}, '"reasoning_parser" .* did you mean "deepseek_r1"'),
        ({"tool_call_parser": "harmony"}, "token ids of gpt-oss models"),
        ({"reasoning_parser": "gpt_oss"}, "token ids of gpt-oss models"),
    ],
)
def test_unknown_names(names: dict[str, str], message: str) -> None:
    """The runtime is not created."""
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(engine("tokens:Async"), **names)


def test_description_names_parsers(caplog: pytest.LogCaptureFixture) -> None:
    """An engine may name them; the configuration overrides it; names that are unknown are only logged."""
    say = tokenizer.core.encode(calling).ids
    info = {"tool_call_parser": "hermes"}
    with Runtime(engine("tokens:Async", options={"say": say, "info": info})) as runtime:
        assert calls_of(runtime.chat("?", tools=tools).result()) == [oslo]
        assert "tools" in runtime.models()[0]["capabilities"]
    with Runtime(
        engine("tokens:Async", options={"say": say, "info": info}), tool_call_parser="off"
    ) as runtime:
        assert runtime.chat("?", tools=tools).result().text == calling
        assert "tools" not in runtime.models()[0]["capabilities"]
    info = {"tool_call_parser": "unheard"}
    with (
        caplog.at_level(logging.WARNING, "dynamo_llm.parsers"),
        Runtime(engine("tokens:Async", options={"say": say, "info": info})) as runtime,
    ):
        assert runtime.chat("?", tools=tools).result().text == calling


def test_other_processes(capfd: pytest.CaptureFixture[str]) -> None:
    """They reach the frontend, but do not get a text, and cause no output."""

    async def parse() -> str:
        parsers = await DynamoParsers.open("hermes", None)
        parser = await parsers.begin(AskedChat({}, tools, [], ""))
        assert (await parser.feed("secret", [])).content == "secret"
        guessed = {"role": "user", "content": "0" * 32}
        body = {"model": parsers._model, "messages": [guessed]}
        url = f"http://127.0.0.1:{parsers._service.port}/v1/chat/completions"
        _, answer = await asyncio.to_thread(post, url, body)
        await parser.close()
        await parsers.close()
        return json.dumps(answer)

    assert "secret" not in asyncio.run(parse())
    assert "Traceback" not in capfd.readouterr().err


@both
def test_cancel(kind: str) -> None:
    """Leaving an answer early frees its parser."""
    with opened(kind, "word " * 2000) as runtime:
        request = runtime.chat("?", tools=tools)
        next(iter(request))
        request.cancel()
        assert runtime.chat("?", tools=tools, max_tokens=2).result().text


# ----------------------------------------------------------------------------------------- callers


def uttering(text: str) -> dict[str, Any]:
    """Returns the configuration of an engine that gives the text, with parsers."""
    say = tokenizer.core.encode(text, add_special_tokens=False).ids
    config = engine("tokens:Async", options={"say": say})
    return {**config, "tool_call_parser": "hermes", "reasoning_parser": "qwen3"}


whole = f"<think>Hm.</think>{calling}"


def test_caller_in_c(tmp_path: Path) -> None:
    """The accessors of responses return what was found."""
    flags = dynamo_config("--cflags", "--libs").split()
    program = compile_c(Path(__file__).with_name("tool_calls.c"), tmp_path / "tool_calls", *flags)
    done = run([program, json.dumps(uttering(whole))], {"HOME": str(tmp_path)})
    expected = 'tool_calls|Let me look.\n|Hm.\ntemperature({"city": "Oslo", "days": 3})\n'
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_engine_in_c(tmp_path: Path) -> None:
    """The pipeline parses the tokens of an engine in C, which repeats its prompt and names a parser."""
    flags = [*dynamo_config("--cflags", "--libs").split(), "-shared", "-fPIC"]
    file = compile_c(tests_dir / "engines" / "tokens.c", tmp_path / "libparsertokens.so", *flags)
    library = ctypes.CDLL(str(file))
    info = {"path": str(demo_model_dir()), "context_length": 1024, "tool_call_parser": "hermes"}
    assert library.register_tokens(b"parser-ctokens", json.dumps(info).encode()) == 0
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools and '' }}"
    for name, calls in ((None, [("noise", {})]), ("hermes", [("noise", {})]), ("off", [])):
        keys = {"tool_call_parser": name, "trust_request_chat_template": True}
        with Runtime(engine="parser-ctokens", **keys) as runtime:
            answer = runtime.chat(call("noise"), tools=tools, chat_template=template).result()
            assert calls_of(answer) == calls
            assert answer.finish_reason == ("tool_calls" if calls else "stop")


def test_isolated_engine() -> None:
    """The parsers run in the child process."""
    with Runtime({**uttering(whole), "isolation": "process"}) as runtime:
        answer = runtime.chat("?", tools=tools).result()
        assert (answer.text, answer.reasoning_content) == ("Let me look.\n", "Hm.")
        assert (calls_of(answer), answer.finish_reason) == ([oslo], "tool_calls")


def test_openai_client(tmp_path: Path) -> None:
    """Over HTTP, streamed and whole, as OpenAI's own client reads it."""
    openai = pytest.importorskip("openai", reason="needs the package openai")
    pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": tools}
    with serve(uttering(whole), HOME=str(tmp_path)) as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=patience)
        answer = client.chat.completions.create(**body)
        with client.chat.completions.stream(**body) as stream:
            streamed = stream.get_final_completion()
    for completion in (answer, streamed):
        (choice,) = completion.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.\n")
        assert choice.message.reasoning_content == "Hm."
        (found,) = choice.message.tool_calls
        assert (found.function.name, json.loads(found.function.arguments)) == oslo


def test_card_of_a_cluster(new_cluster: NewCluster) -> None:
    """The engine dynamo parses with the parsers that the model's card names, unless they are off."""
    cluster = new_cluster("file-tcp-zmq")
    runtime = {key: value for key, value in uttering(whole).items() if not key.endswith("parser")}
    model = {"name": "caller", "tool_call_parser": "hermes", "reasoning_parser": "qwen3"}
    client: dict[str, Any] = {"engine": "dynamo", "cluster": cluster.settings}
    with Worker(cluster, runtime, model=model):
        with Runtime(client) as parsing:
            wait_until(parsing.models)
            for stream in (True, False):
                answer = parsing.chat("?", tools=tools, stream=stream).result()
                assert (answer.text, answer.reasoning_content) == ("Let me look.\n", "Hm.")
                assert (calls_of(answer), answer.finish_reason) == ([oslo], "tool_calls")
        with Runtime(client, tool_call_parser="off", reasoning_parser="off") as plain:
            wait_until(plain.models)
            answer = plain.chat("?", tools=tools).result()
            assert (answer.text, answer.tool_calls) == (whole, [])
        with pytest.raises(InvalidConfigError, match='did you mean "hermes"'):
            Runtime(client, tool_call_parser="hermess")
