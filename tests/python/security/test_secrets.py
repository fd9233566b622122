# SPDX-License-Identifier: Apache-2.0
"""Keys and passwords appear in no object and no error, even if a server repeats them."""

import base64
import copy
import gc
import html
import io
import json
import logging
import pickle
import pprint
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import dynamo_llm
import pytest
from conftest import run
from dynamo_llm.runtime.cluster.credentials import Etcd, Nats, read
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.engine import EngineConfig
from dynamo_llm.runtime.engines.openai import OpenAIEngine
from dynamo_llm.runtime.secret import Secret, redact, shown, shown_variable
from dynamo_llm.runtime.urls import shown_url
from reliability import reliability
from wire import Call, Wire

key = "sk-C4n4ry/5ecret+1234567890"


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A server."""
    server = Wire()
    yield server
    server.close()


def test_it_cannot_be_printed() -> None:
    secret = Secret(key)
    stream = io.StringIO()
    print(secret, [secret], {"a": secret}, file=stream)
    pprint.pprint({"deep": [{"a": secret}]}, stream=stream)
    stream.write(f"{secret} {secret!r} {secret!s:>9} {secret:>9} ")
    stream.write(repr(Etcd(username="u", password=secret)) + repr(vars(OpenAIEngine)) + str(dir(secret)))
    assert key not in stream.getvalue() and "***" in stream.getvalue()
    ways: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, pickle.dumps, json.dumps, vars]
    for way in ways:
        with pytest.raises(TypeError) as caught:
            way(secret)
        assert key not in str(caught.value)
    assert secret == Secret(key) and hash(secret) == hash(Secret(key)) and secret != key
    assert secret.reveal() == key and secret and not Secret("")


_repeats: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a header": lambda text: f"Authorization: Bearer {text}",
    "its beginning": lambda text: text[:12],
    "its end": lambda text: text[-9:],
    "something of it": lambda text: f"{text[3:14]}...",
    "in capitals": str.upper,
    "URL-encoded": lambda text: urllib.parse.quote(text, safe=""),
    "all percent": lambda text: "".join(f"%{ord(sign):02X}" for sign in text),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "a header in base64": lambda text: base64.b64encode(f"Bearer {text}".encode()).decode(),
    "a login in base64": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(f"x{text}\n".encode()).decode(),
    "in hexadecimal": lambda text: text.encode().hex(),
    "in JSON": json.dumps,
    "in HTML": html.escape,
    "twice": lambda text: text + text,
}


def leaks(how: str, value: str, text: str) -> bool:
    """Whether a text contains eight characters of the part of a repetition that depends on the secret."""
    repeated = _repeats[how](value)
    start = next(
        i for i, (one, other) in enumerate(zip(repeated, _repeats[how]("\0"), strict=False)) if one != other
    )
    parts = (repeated[i : i + 8] for i in range(start, len(repeated) - 7))
    return any(part in text for part in parts)


@pytest.mark.many(4)
@pytest.mark.parametrize("how", _repeats)
def test_redaction(how: str) -> None:
    """However a secret is encoded, no eight characters of it remain."""
    for value in (key, "a 'quoted' \"key\" & <more>", "pässwörter-und-mehr"):
        secret = Secret(value)
        repeated = _repeats[how](value)
        text = redact(f"before {repeated} after")
        assert text.startswith("before ") and text.endswith(" after") and "***" in text
        assert not leaks(how, value, text), text
        del secret
        gc.collect()
        assert redact(repeated) == repeated  # the secret no longer exists


def test_redaction_keeps_other_text() -> None:
    """Words in place of keys are not secrets, and short ones are only found as whole words."""
    secrets = [Secret(value) for value in ("EMPTY", "none", "x", "", "hunter2", "Bearer abcdefghijklmnop")]
    assert redact("EMPTY none x Bearer hunter hunter2 hunter22") == "EMPTY none x Bearer hunter *** ***2"
    assert redact("abcdefghijk, and ABCDEFGHIJKLMNOP") == "***, and ***"
    login = Secret("Basic " + base64.b64encode(b"me:0pen-sesame").decode())
    assert redact("the password 0pen-sesame of me is wrong") == "the password *** of me is wrong"
    del login, secrets


@pytest.mark.many(8)
@pytest.mark.parametrize("how", _repeats)
@pytest.mark.parametrize("where", ["error", "stream", "page", "models"])
def test_a_server_that_repeats_the_key(wire: Wire, where: str, how: str) -> None:
    """The key is in no message, no details, no log, and no list of models."""
    repeated = _repeats[how](key)

    async def reply(call: Call) -> None:
        if where == "error":
            await call.whole(401, {"error": {"message": f"Wrong key: {repeated}", "code": repeated}})
        elif where == "page":
            await call.whole(200, f"<p>{repeated}</p>", "text/html")
        else:
            await call.begin()
            await call.events({"error": {"message": repeated, "code": 500}})
            await call.end()

    wire.replies = [reply]
    wire.models = {"data": [{"id": "m"}, {"id": f"m-{repeated}"}]}
    config = {
        "engine": "openai",
        "model": "m" if where != "models" else "other",
        "options": {"base_url": wire.url, "api_key": key, "max_retries": 1, "retry_delay": 0.001},
    }
    result = run([sys.executable, "-c", _ask, json.dumps(config)])
    assert result.stdout.endswith("asked\n"), result.stderr
    assert not leaks(how, key, result.stdout + result.stderr), result.stdout + result.stderr
    reliability(f"a server repeats the key {how} in its {where}", 1, "*** in its place, in errors and logs")


_ask = """
import json, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import dynamo_llm
try:
    with dynamo_llm.Runtime(sys.argv[1]) as runtime:
        print(repr(runtime), runtime.models(), runtime.statistics(), runtime.metrics())
        runtime.chat("a").result()
except dynamo_llm.DynamoError as error:
    print(repr(error), error.details)
print("asked")
"""


def openai(**options: Any) -> dict[str, Any]:
    """Returns a configuration of the engine openai whose server does not exist."""
    return {"engine": "openai", "model": "m", "options": {"base_url": "http://127.0.0.1:9/v1", **options}}


_misplaced: dict[str, Any] = {
    "as the URL": openai(base_url=key),
    "in the URL's query": openai(base_url=f"https://127.0.0.1:9/v1?api_key={key}"),
    "in the URL's fragment": openai(base_url=f"https://127.0.0.1:9/v1#{key}"),
    "as the URL's user": openai(base_url=f"https://{key}@127.0.0.1:9/v1"),
    "as the URL's port": openai(base_url=f"https://127.0.0.1:{key}/v1"),
    "as the name of a variable": openai(api_key_env=key),
    "as the name of a key": openai(**{key: "api_key"}),
    "as the name of a header": openai(headers={key: "authorization"}),
    "as the name of an invalid header": openai(headers={key + " ": "authorization"}),
    "as a header's name and value": openai(headers={key: key}),
    "as the organization": openai(organization=f"{key}\n"),
    "as a number": openai(timeout=key),
    "as a switch": openai(verify=key),
    "as a file": openai(ca_file=key),
    "in the proxy's query": openai(proxy=f"http://127.0.0.1:9/?token={key}", max_retries=0),
    "in a proxy that is none": openai(proxy=f"ht!tp://u:{key}@proxy"),
    "as the proxy": openai(proxy=key),
    "as the proxy's port": openai(proxy=f"http://proxy:{key}"),
    "as the engine": {"engine": key},
    "as the engine's class": {"engine": f"{key}:Class"},
    "as a key of the configuration": {key: "engine"},
    "as a choice": {"engine": "echo", "pipeline": key},
    "as a key of the limits": {"engine": "echo", "limits": {key: 1}},
    "as a number of the stream": {"engine": "echo", "stream": {"capacity": key}},
    "as a policy": {"engine": "echo", "stream": {"when_full": key}},
    "as a key of a cluster": {"engine": "dynamo", "cluster": {key: "x"}},
    "as a discovery": {"engine": "dynamo", "cluster": {"discovery": key}},
    "as a namespace": {"engine": "dynamo", "cluster": {"namespace": f"{key}/x"}},
    "as a host": {"engine": "dynamo", "cluster": {"host": key}},
    "as an address": {"engine": "dynamo", "cluster": {"etcd": [key]}},
    "in an address": {"engine": "dynamo", "cluster": {"etcd": [f"ftp://127.0.0.1:9/?token={key}"]}},
    "as a key of TLS": {"engine": "dynamo", "cluster": {"tls": {key: {}}}},
    "as a key of a login": {"engine": "dynamo", "cluster": {"tls": {"nats": {key: "token"}}}},
    "as a number too large": f'{{"engine": "echo", "options": {{"api_key": 1{"6" * 40}e999, "a": "{key}"}}}}',
    "in JSON that is none": f'{{"engine": "openai", "options": {{"api_key": "{key}" "x"}}}}',
}


@pytest.mark.many(4)
@pytest.mark.parametrize("where", _misplaced)
def test_a_key_in_the_wrong_place(where: str) -> None:
    """Errors say what is wrong with it, and do not repeat it."""
    config = _misplaced[where]
    text = config if isinstance(config, str) else json.dumps(config)
    result = run([sys.executable, "-c", _ask, text])
    assert result.stdout.endswith("asked\n") and "Error(" in result.stdout, result.stdout + result.stderr
    said = result.stdout + result.stderr
    assert key not in said and key[3:] not in said and "6" * 40 not in said, said
    reliability(f"a key {where} of a configuration", 1, "an error that does not repeat it")


def test_names_in_messages() -> None:
    """Text that looks like a name is shown, because it may be a misspelled name."""
    for name in ("max_tokens", "maxTokens", "a b", "streams", "module:Class", "a.b.c:Class2"):
        assert shown(name) == name
    for name in (
        key,
        "hunter2",
        "Sup3r",
        "nvapi-ABCdef",
        "x" * 33,
        "clé",
        "a\nb",
        "a:",
        "",
        "ABCDEFGHIJKLMNOPQ",
    ):
        assert shown(name) == "***"
    assert shown_variable("OPENAI_API_KEY") == "OPENAI_API_KEY"
    for name in (key, "AKIAIOSFODNN7EXAMPLE", "hf_abc", "A_" * 40):
        assert shown_variable(name) == "***"
    for url, text in (
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://user:pass@host/v1", "https://host/v1"),
        ("https://host/v1?key=a#b", "https://host/v1?***"),
        ("https://host/v1#b", "https://host/v1#***"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://u:p/w@host/", "***"),
        (key, "***"),
        ("user:pass@host", "***"),
    ):
        assert shown_url(url) == text


def test_objects_with_secrets() -> None:
    """Objects that contain secrets do not show them, and neither do the frames of a traceback."""
    tls = {"etcd": {"username": "u", "password": key}, "nats": {"token": key}}
    config = EngineConfig("openai", "m", {"base_url": "http://h/v1", "api_key": key}, cluster={"tls": tls})
    engine = OpenAIEngine(config)
    settings = Settings.read({"tls": tls, "nats": ["nats://a:1"], "event_plane": "nats"})
    assert key not in repr(config) + repr(vars(engine)) + repr(settings) + repr(settings.connection_key)
    assert isinstance(read(Nats, {"nkey": key}, "x").nkey, Secret)
    assert settings.planes.of_construction()["ETCD_AUTH_PASSWORD"] == key  # for NVIDIA Dynamo
    assert settings == Settings.read({"tls": tls, "nats": ["nats://a:1"], "event_plane": "nats"})
    with pytest.raises(dynamo_llm.InvalidConfigError) as caught:
        OpenAIEngine(
            EngineConfig("openai", "m", {"api_key": key, "headers": {"a": "b\n"}, "base_url": "http://h"})
        )
        raise dynamo_llm.InvalidConfigError("it is found at the start")
    frames = caught.value.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename.endswith("openai.py"):
            assert key not in repr(frames.tb_frame.f_locals)
        frames = frames.tb_next


def test_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{urllib.parse.quote(key, safe='')}@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    config = openai(base_url="http://server.invalid/v1", proxy="environment", max_retries=0)
    with pytest.raises(dynamo_llm.DynamoError) as caught:
        dynamo_llm.Runtime(config)
    text = str(caught.value) + json.dumps(caught.value.details) + caplog.text
    assert key not in text and urllib.parse.quote(key, safe="") not in text


def test_a_span_has_no_secret() -> None:
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from dynamo_llm.runtime.span import Span

    secret = Secret(key)
    tracer = trace.TracerProvider().get_tracer("test")
    span = tracer.start_span("chat")
    try:
        raise RuntimeError(f"the server said: {secret.reveal()}")
    except RuntimeError as error:
        Span(span).fail(error)
    assert key not in span.to_json() and "the server said: ***" in span.to_json()
