# SPDX-License-Identifier: Apache-2.0
"""Clients that know OpenAI's API and not this library: OpenAI's Python package, curl."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from conftest import patience, run
from served import Served, events, scripted, serve

openai = pytest.importorskip("openai", reason="needs the package openai")

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

question = [{"role": "user", "content": "What is a KV cache?"}]


def client(served: Served, **more: Any) -> Any:
    return openai.OpenAI(base_url=f"{served.url}/v1", **{"api_key": "none", "timeout": patience, **more})


def script(*entries: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of a chat that is answered with a script."""
    return {"model": "scripted", "messages": [{"role": "user", "content": json.dumps(entries)}]}


def streamed(chunks: Iterator[Any]) -> tuple[str, list[Any]]:
    """Returns the text of the first choice, and all chunks."""
    some = list(chunks)
    text = "".join(c.choices[0].delta.content or "" for c in some if c.choices and c.choices[0].index == 0)
    return text, some


@pytest.fixture(scope="module")
def script_server() -> Iterator[Served]:
    """A server whose answers are the scripts in the prompts."""
    with serve(scripted) as served:
        yield served


@pytest.fixture(scope="module")
def demo_server() -> Iterator[Served]:
    """A server of the demo model."""
    with serve({}) as served:
        yield served


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The library's whole answer to the question."""
    with dynamo_llm.Runtime() as runtime:
        return runtime.chat(question, stream=False, max_tokens=12).result().json()  # type: ignore[no-any-return]


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two answers differ only in what is different for each request."""
    changing = ("id", "created", "model")
    return {**first, **dict.fromkeys(changing)} == {**second, **dict.fromkeys(changing)}


def test_whole_chat(demo_server: Served, expected: dict[str, Any]) -> None:
    """The answer over HTTP is the library's answer, byte for byte of its JSON."""
    answer = demo_server.ask("POST", "/v1/chat/completions", {"messages": question, "max_tokens": 12})
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    assert same(answer.json(), expected)
    parsed = client(demo_server).chat.completions.create(model="demo", messages=question, max_tokens=12)
    assert parsed.choices[0].message.content == expected["choices"][0]["message"]["content"]
    assert parsed.usage.model_dump(exclude_none=True) == expected["usage"]


def test_streamed_chat(demo_server: Served, expected: dict[str, Any]) -> None:
    """The same text in pieces; counts in a chunk of their own when the client asks for them."""
    chunks = client(demo_server).chat.completions.create(
        model="demo",
        messages=question,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, some = streamed(chunks)
    assert text == expected["choices"][0]["message"]["content"]
    assert len(some) > 2
    assert not some[-1].choices and some[-1].usage.completion_tokens == 12
    assert all(chunk.usage is None for chunk in some[:-1])


def test_completion(demo_server: Served) -> None:
    """A prompt without a template; several choices, log-probs, a stop string."""
    answer = client(demo_server).completions.create(
        model="demo", prompt="A KV cache", max_tokens=5, n=2, logprobs=2, temperature=1.0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(len(choice.logprobs.tokens) == 5 for choice in answer.choices)
    cut = client(demo_server).chat.completions.create(model="demo", messages=question, stop=["attention"])
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == "A KV cache keeps the "


def test_several_streamed_choices(demo_server: Served) -> None:
    """Chunks of several choices are told apart by their index."""
    chunks = client(demo_server).chat.completions.create(
        model="demo", messages=question, max_tokens=4, n=3, stream=True
    )
    finished = [c.choices[0].index for c in chunks if c.choices and c.choices[0].finish_reason]
    assert sorted(finished) == [0, 1, 2]


def test_structured_output(demo_server: Served) -> None:
    """An answer that matches a schema."""
    schema = {
        "type": "object",
        "properties": {"color": {"enum": ["red", "green"]}},
        "required": ["color"],
        "additionalProperties": False,
    }
    answer = client(demo_server).chat.completions.create(
        model="demo",
        messages=question,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "c", "schema": schema, "strict": True},
        },
    )
    assert json.loads(answer.choices[0].message.content)["color"] in ("red", "green")


def test_tool_calls(script_server: Served) -> None:
    """Tool calls, streamed in fragments and whole."""
    fragments = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
    ]
    asked = script(*({"delta": {"tool_calls": [one]}} for one in fragments), {"finish": "tool_calls"})
    answer = client(script_server).chat.completions.create(**asked)
    calls = [
        (call.id, call.function.name, call.function.arguments)
        for call in answer.choices[0].message.tool_calls
    ]
    assert calls == [("a", "f", '{"x": 1}'), ("b", "g", "{}")]
    assert answer.choices[0].finish_reason == "tool_calls"
    with client(script_server).chat.completions.stream(**asked) as stream:
        message = stream.get_final_completion().choices[0].message
    assert [call.function.arguments for call in message.tool_calls] == ['{"x": 1}', "{}"]


def test_tools_reach_the_model(tmp_path: Path) -> None:
    """Tools are part of the prompt."""
    function = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
    with serve({"model": str(tiny_models.llama(tmp_path / "model"))}) as served:
        create = client(served).chat.completions.create
        tools = [{"type": "function", "function": function}]
        with_tools = create(model="m", messages=question, max_tokens=1, tools=tools)
        without = create(model="m", messages=question, max_tokens=1)
    assert with_tools.usage.prompt_tokens > without.usage.prompt_tokens


def test_embeddings(tmp_path: Path) -> None:
    """Vectors of several inputs; OpenAI's client asks for base64."""
    model = tiny_models.embedder(tmp_path / "model")
    with dynamo_llm.Runtime(model=model) as runtime:
        expected = runtime.embed(["one", "two"]).result().vectors
    with serve({"model": str(model)}) as served:
        answer = client(served).embeddings.create(model="m", input=["one", "two"])
        plain = served.ask("POST", "/v1/embeddings", {"input": ["one", "two"]}).json()
    for index, vector in enumerate(expected):
        assert answer.data[index].embedding == pytest.approx(vector)
        assert plain["data"][index]["embedding"] == pytest.approx(vector)
    assert plain["object"] == "list" and plain["usage"]["prompt_tokens"] > 0


def test_models(demo_server: Served) -> None:
    """Models as OpenAI lists them; where they lie on the server's disk is not shown."""
    listed = client(demo_server).models.list().data
    assert [model.id for model in listed] == ["mistralrs"]
    model = client(demo_server).models.retrieve("mistralrs")
    assert model.object == "model" and model.context_length == 1024
    assert "path" not in demo_server.ask("GET", "/v1/models").text
    with pytest.raises(openai.NotFoundError) as error:
        client(demo_server).models.retrieve("org/other")
    assert error.value.code == "model_not_found"
    assert 'models of this server: "mistralrs"' in error.value.message


def test_model_by_name() -> None:
    """With several models, "model" chooses one; a name with a slash is a name, too."""
    models = [{"name": "org/a", "engine": "echo"}, {"name": "b", "engine": "scripted"}]
    with serve({"models": models}) as served:
        create = client(served).chat.completions.create
        assert create(model="org/a", messages=question).choices[0].message.content == question[0]["content"]
        assert client(served).models.retrieve("org/a").id == "org/a"
        with pytest.raises(openai.NotFoundError, match="org/a"):
            create(model="c", messages=question)


@pytest.mark.parametrize("split", [False, True])
def test_unicode(script_server: Served, split: bool) -> None:
    """Code points that the engine splits, and characters that some clients take for the end of a line."""
    text = "é 語 🦀\u2028\u0085\r\n\x00 end"
    data = text.encode()
    pieces = [data[i : i + 1] for i in range(len(data))] if split else [data]
    asked = script(*({"bytes": piece.hex()} for piece in pieces))
    create = client(script_server).chat.completions.create
    assert streamed(create(**asked, stream=True))[0] == text
    assert create(**asked).choices[0].message.content == text


statuses = [
    ("INVALID_REQUEST", 400, "BadRequestError", "invalid_request"),
    ("CONTEXT_LENGTH", 400, "BadRequestError", "context_length_exceeded"),
    ("MODEL_NOT_FOUND", 404, "NotFoundError", "model_not_found"),
    ("OVERLOADED", 429, "RateLimitError", "rate_limit_exceeded"),
    ("ENGINE_FAILED", 500, "InternalServerError", "engine_failed"),
    ("NOT_SUPPORTED", 501, "InternalServerError", "not_supported"),
    ("UNAVAILABLE", 503, "InternalServerError", "unavailable"),
    ("DEADLINE_EXCEEDED", 504, "InternalServerError", "deadline_exceeded"),
]


@pytest.mark.parametrize(("name", "status", "kind", "code"), statuses)
@pytest.mark.parametrize("stream", [False, True])
def test_error_classes(
    script_server: Served, name: str, status: int, kind: str, code: str, stream: bool
) -> None:
    """An error before the first token is an HTTP status, also for a stream."""
    asked = script({"error": {"status": name, "message": "the reason"}})
    with pytest.raises(getattr(openai, kind)) as error:
        client(script_server, max_retries=0).chat.completions.create(**asked, stream=stream)
    assert (error.value.status_code, error.value.code) == (status, code)
    assert "the reason" in error.value.message


def test_error_in_a_stream(script_server: Served) -> None:
    """An error after the first token is an event, which clients raise; the answer does not count as done."""
    asked = script({"text": "one "}, {"error": {"status": "UNAVAILABLE", "message": "the reason"}})
    text = ""
    with pytest.raises(openai.APIError, match="the reason") as error:
        for chunk in client(script_server).chat.completions.create(**asked, stream=True):
            text += chunk.choices[0].delta.content
    assert text == "one "
    assert error.value.body["type"] == "service_unavailable"
    reply = script_server.ask("POST", "/v1/chat/completions", {**asked, "stream": True})
    assert events(reply.text)[-1].startswith('{"error"')


def test_retries_are_only_of_use_for_some_errors(script_server: Served) -> None:
    """OpenAI's client repeats requests, unless the server says that it is of no use."""
    for name, count in (("NOT_SUPPORTED", 1), ("UNAVAILABLE", 3)):
        before = script_server.metric(f'dynamo_llm_requests_total{{status="{name.lower()}"}}')
        with pytest.raises(openai.InternalServerError):
            client(script_server, max_retries=2).chat.completions.create(
                **script({"error": {"status": name}})
            )
        after = script_server.metric(f'dynamo_llm_requests_total{{status="{name.lower()}"}}')
        assert after - before == count


def test_many_clients() -> None:
    """Answers of clients that stream at the same time do not mix."""
    with serve({"engine": "echo"}) as served:
        ours = client(served)

        def ask(number: int) -> str:
            text = " ".join(f"{number}-{word}" for word in range(50))
            chunks = ours.chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}], stream=True
            )
            assert streamed(chunks)[0] == text
            return text

        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(ask, range(100)))) == 100
        assert served.metric('dynamo_llm_requests_total{status="ok"}') == 100
        assert served.metric("dynamo_llm_http_requests_in_flight") == 0


def test_library_as_client(script_server: Served) -> None:
    """The engine openai, with this server: errors keep their classes on the way through HTTP."""
    pytest.importorskip("httpx2", reason="needs the packages of the extra openai")
    options = {"base_url": f"{script_server.url}/v1", "max_retries": 0}
    with dynamo_llm.Runtime(engine="openai", options=options) as runtime:
        words = json.dumps([{"text": "one "}, {"text": "two"}])
        assert runtime.chat(words, model="scripted").result().text == "one two"
        for kind in (
            dynamo_llm.ContextLengthError,
            dynamo_llm.DeadlineExceededError,
            dynamo_llm.NotSupportedError,
            dynamo_llm.OverloadedError,
            dynamo_llm.UnavailableError,
        ):
            failing = {"status": kind.status_name, "message": "the context length is 1 token"}
            with pytest.raises(kind):
                runtime.chat(json.dumps([{"error": failing}]), model="scripted").result()


def test_curl(script_server: Served) -> None:
    """The program that most people try first."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    body = json.dumps({**script({"text": "é "}, {"text": "two"}), "stream": True})
    result = run(
        [
            "curl",
            "-sSN",
            f"{script_server.url}/v1/chat/completions",
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
        ]
    )
    assert (result.returncode, result.stderr) == (0, "")
    *chunks, last = events(result.stdout)
    assert last == "[DONE]"
    parsed = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(parsed) == "é two"


def test_any_engine(tmp_path: Path) -> None:
    """An engine written in Python, found like those of the package."""
    (tmp_path / "shouting.py").write_text(
        "class Shouting:\n"
        "    def __init__(self, config): pass\n"
        "    def start(self): pass\n"
        "    def stop(self): pass\n"
        "    async def generate(self, request):\n"
        "        yield {'text': request.body['messages'][-1]['content'].upper()}\n"
    )
    config = {"engine": "shouting:Shouting", "python": {"path": [str(tmp_path)]}}
    with serve(config) as served:
        assert served.chat("one").json()["choices"][0]["message"]["content"] == "ONE"


def test_embeddings_in_parts(tmp_path: Path) -> None:
    """An engine may make embeddings one by one; over HTTP the answer is whole."""
    (tmp_path / "counting.py").write_text(
        "class Counting:\n"
        "    def __init__(self, config): pass\n"
        "    def start(self): pass\n"
        "    def stop(self): pass\n"
        "    async def generate(self, request):\n"
        "        for index, text in enumerate(request.body['input']):\n"
        "            data = [{'object': 'embedding', 'index': index, 'embedding': [float(len(text))]}]\n"
        "            yield {'delta': {'object': 'list', 'data': data}}\n"
    )
    config = {"engine": "counting:Counting", "python": {"path": [str(tmp_path)]}}
    with serve(config) as served:
        reply = served.ask("POST", "/v1/embeddings", {"input": ["a", "bcd"]})
    assert [entry["embedding"] for entry in reply.json()["data"]] == [[1.0], [3.0]]
