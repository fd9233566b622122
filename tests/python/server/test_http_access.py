# SPDX-License-Identifier: Apache-2.0
"""Who may use a server: API keys, pages of other sites, addresses."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Completed, run
from dynamo_llm import InvalidConfigError, SystemFailedError
from dynamo_llm.runtime.secret import Secret
from dynamo_llm.server.address import Address
from served import Served, command, serve

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

echo = {"engine": "echo"}
key, other_key = "sk-test-0123456789abcdef", "sk-other-0123456789abcdef"
site = "https://example.com"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key in the environment, one in a file, and a site whose pages may use it."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"\n{other_key}\n\n")
    options = ["--api-key-env", "TEST_KEY", "--api-key-file", str(file), "--cors-origin", site]
    with serve(echo, *options, TEST_KEY=key) as served:
        yield served


@pytest.fixture(scope="module")
def unlocked() -> Iterator[Served]:
    """A server as it is by default."""
    with serve(echo) as served:
        yield served


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "no API key was given"),
        ("Bearer", "no API key was given"),
        (f"Basic {key}", "no API key was given"),
        (key, "no API key was given"),
        ("Bearer sk-wrong-key", "the API key is not correct"),
        (f"Bearer {key}x", "the API key is not correct"),
        (f"Bearer {key[:-1]}", "the API key is not correct"),
        (f"Bearer {key} {key}", "the API key is not correct"),
        ("Bearer \xff", "the API key is not correct"),
    ],
)
def test_wrong_key(locked: Served, header: str, words: str) -> None:
    """HTTP 401, as OpenAI's clients expect; the answer does not repeat the key."""
    reply = locked.ask("GET", "/v1/models", Authorization=header)
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
    error = reply.error()
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert words in error["message"]
    assert key[:8] not in reply.text


def test_right_key(locked: Served) -> None:
    """Each of the keys, for each endpoint but /health."""
    for right in (key, other_key):
        for scheme in ("Bearer", "bearer"):
            assert locked.ask("GET", "/v1/models", Authorization=f"{scheme} {right}").status == 200
    for path in ("/v1/models", "/metrics", "/unknown"):
        assert locked.ask("GET", path).status == 401
    assert locked.ask("POST", "/v1/chat/completions", {}).status == 401
    assert locked.ask("GET", "/health").status == 200


def test_openai_client_with_a_key(locked: Served) -> None:
    openai = pytest.importorskip("openai", reason="needs the package openai")
    client = openai.OpenAI(base_url=f"{locked.url}/v1", api_key=key)
    assert [model.id for model in client.models.list()] == ["echo"]
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="sk-wrong").models.list()


def test_pages_of_other_sites(locked: Served, unlocked: Served) -> None:
    """A browser lets pages of a site read answers only if the site is named; by default no site is."""
    path, allowed = "/v1/chat/completions", "Access-Control-Allow-Origin"
    asking = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    # A browser asks without a key.
    reply = locked.ask("OPTIONS", path, None, Origin=site, **asking)
    assert (reply.status, reply.headers[allowed]) == (200, site)
    assert "authorization" in reply.headers["Access-Control-Allow-Headers"]
    assert (
        locked.ask("GET", "/v1/models", Origin=site).headers[allowed] == site
    )  # so that it can read the 401
    assert locked.ask("OPTIONS", path, None, Origin="https://evil.example", **asking).status == 400
    assert locked.ask("GET", "/health", Origin="https://evil.example").headers[allowed] is None
    reply = unlocked.ask("OPTIONS", path, None, Origin=site, **asking)
    assert (reply.status, reply.headers[allowed]) == (405, None)
    assert unlocked.ask("GET", "/v1/models", Origin=site).headers[allowed] is None


@pytest.mark.parametrize(
    ("host", "is_ok"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1:8000", True),
        ("127.0.0.2", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("127.evil.example", False),
        ("localhost.evil.example", False),
    ],
)
def test_names_of_other_hosts(locked: Served, unlocked: Served, host: str, is_ok: bool) -> None:
    """Without a key, a page whose name resolves to 127.0.0.1 could use the server (DNS rebinding)."""
    reply = unlocked.ask("GET", "/v1/models", Host=host)
    assert reply.status == (200 if is_ok else 403)
    assert locked.ask("GET", "/v1/models", Host=host, Authorization=f"Bearer {key}").status == 200


def attempt(*options: str, **env: str) -> Completed:
    return run(command("--engine", "echo", "--http", "127.0.0.1:0", *options), env)


def test_keys_that_cannot_be_read(tmp_path: Path) -> None:
    """The server does not start, least of all without a key."""
    empty, binary, spaced = tmp_path / "empty", tmp_path / "binary", tmp_path / "spaced"
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xfe")
    spaced.write_text(f"{key}\n{other_key} {key}\n")
    for options, words in (
        (["--api-key-env", "TEST_KEY"], 'the environment variable "TEST_KEY"'),
        (["--api-key-file", str(tmp_path / "none")], "cannot be read: No such file"),
        (["--api-key-file", str(empty)], "has no key"),
        (["--api-key-file", str(binary)], "not UTF-8"),
        (["--api-key-file", str(spaced)], "line 2 of"),
        (["--api-key-env", key], '"***"'),
    ):
        result = attempt(*options)
        assert (result.returncode, result.stdout) == (1, "")
        assert words in result.stderr and key not in result.stderr
    assert attempt("--api-key-env", "TEST_KEY", TEST_KEY=" ").returncode == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cors-origin", "example.com"], "is not an origin"),
        (["--cors-origin", "https://example.com/page"], "is not an origin"),
        (["--endpoint", "a.b.c"], "--endpoint is the endpoint of a worker in a cluster"),
        (["--max-requests", "0"], "--max-requests"),
        (["--body-timeout", "0"], "--body-timeout"),
    ],
)
def test_wrong_usage(options: list[str], words: str) -> None:
    result = attempt(*options)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.split())


def test_options_without_http() -> None:
    """They would be without effect."""
    result = run(command("--engine", "echo", "--api-key-env", "TEST_KEY"))
    assert result.returncode == 2
    assert "--api-key-env requires --http" in result.stderr


@pytest.mark.parametrize("text", ["x", "a:b", "::1:80", "a:70000", "a:-1", "a:", "[::1]", ""])
def test_not_an_address(text: str) -> None:
    with pytest.raises(InvalidConfigError, match="give HOST:PORT"):
        Address.parse(text)


def test_addresses() -> None:
    """The loopback interface is the default."""
    assert Address.parse("8000") == Address.parse(":8000") == Address("127.0.0.1", 8000)
    assert Address.parse("[::1]:80").url == "http://[::1]:80"
    local = ["localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", ":1"]
    assert all(Address.parse(text).is_loopback for text in local)
    assert not any(Address.parse(text).is_loopback for text in ["0.0.0.0:1", "example.com:1", "[::]:1"])
    address, sockets = Address("localhost", 0).bind()
    assert {one.getsockname()[1] for one in sockets} == {address.port}
    for one in sockets:
        one.close()


def test_address_that_is_taken() -> None:
    """The error comes before the model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SystemFailedError, match=f"cannot listen at 127.0.0.1:{port}: Address already in use"
        ):
            Address("127.0.0.1", port).bind()
        result = run(command("--http", f"127.0.0.1:{port}", "--json", "--model", "/no/such"))
        assert json.loads(result.stdout)["error"]["name"] == "DYNAMO_ERROR_SYSTEM"
    with pytest.raises(SystemFailedError, match="cannot listen at nowhere"):
        Address("nowhere.invalid", 1).bind()


def test_warning_without_a_key() -> None:
    """Other machines can use a server that listens everywhere and needs no key."""
    for options, is_warned in (([], True), (["--api-key-env", "TEST_KEY"], False)):
        with serve(echo, "--http", "0.0.0.0:0", *options, TEST_KEY=key) as served:
            served.signal()
            assert ("--api-key-env" in served.end()[2]) == is_warned


def test_missing_packages(tmp_path: Path) -> None:
    """The error names the extra."""
    for name in ("starlette", "uvicorn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
        )
        result = attempt(PYTHONPATH=str(tmp_path))
        assert (result.returncode, result.stdout) == (1, "")
        assert "python -m pip install 'starlette<2,>=0.46' 'uvicorn<1,>=0.34'" in result.stderr
        shutil.rmtree(tmp_path / name)


def test_keys_are_redacted() -> None:
    """While a server has a key, the library's logs and errors do not show it."""
    from dynamo_llm.runtime.secret import redact
    from dynamo_llm.server.auth import ApiKeys

    keys = ApiKeys(lambda *_: None, [Secret(key)])  # type: ignore[arg-type,return-value]
    assert key not in redact(f"got {key}") and keys


def test_wrong_configuration() -> None:
    """The error is the library's."""
    for config in ({"limits": 5}, {"limits": {"request": {"values": "x"}}}, {"engin": "echo"}):
        result = run(command("--http", "127.0.0.1:0", "--json", "--config", json.dumps(config)))
        assert (result.returncode, result.stderr) == (1, "")
        assert json.loads(result.stdout)["error"]["name"] == "DYNAMO_ERROR_INVALID_CONFIG"
