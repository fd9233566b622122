# SPDX-License-Identifier: Apache-2.0
"""The token of the Hugging Face Hub appears in no error, log, metric, or repr, and reaches one server."""

import sys
from pathlib import Path

import pytest
from conftest import run
from hub_fixtures import hub, tiny_gguf
from hub_server import Hub
from reliability import reliability

__all__ = ["hub", "tiny_gguf"]

ask = """
import json, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import dynamo_llm
try:
    print(dynamo_llm.pull("org/demo", progress=print))
except dynamo_llm.DynamoError as error:
    print(repr(error), error.details)
try:
    with dynamo_llm.Runtime(model="hf:org/demo") as runtime:
        print(repr(runtime), runtime.models(), runtime.statistics(), runtime.metrics())
except dynamo_llm.DynamoError as error:
    print(repr(error), error.details)
print("asked")
"""


@pytest.mark.parametrize("fault", ["none", "gated", "private", "refused", "broken", "revoked", "password"])
def test_token_appears_nowhere(hub: Hub, tmp_path: Path, fault: str) -> None:
    """Not even if the server repeats it, and all of huggingface_hub's own records are printed."""
    hub.echoes = True
    hub.repositories["org/demo"].access = fault
    hub.status = {"refused": 403, "broken": 400}.get(fault)
    environment = hub.environment(tmp_path, HF_DEBUG="1", RUST_LOG="trace", HF_HUB_DOWNLOAD_TIMEOUT="1")
    secret = "hf_0therT0ken0123456789" if fault == "revoked" else hub.token
    if fault == "private":
        (tmp_path / "token").write_text(secret)
    else:
        environment["HF_TOKEN"] = secret
    if fault == "password":
        environment["HF_ENDPOINT"] = hub.url.replace("http://", f"http://user:{secret}@")
    result = run([sys.executable, "-c", ask], environment)
    text = result.stdout + result.stderr
    assert result.stdout.endswith("asked\n"), text
    assert any(secret in str(one) for one in hub.authorizations) or fault == "password"
    assert secret not in text and secret[3:] not in text and secret[-12:] not in text
    reliability(f"a token of the Hugging Face Hub: {fault}", 1, "in no error, log or metric")


def test_token_stays_with_its_server(hub: Hub, tmp_path: Path) -> None:
    """A redirect to another server does not get the token."""
    import hub_server

    with hub_server.serving() as other:
        other.repositories["org/demo"] = hub.repositories["org/demo"]
        hub.redirects = other.url
        result = run(
            [sys.executable, "-m", "dynamo_llm", "pull", "org/demo"],
            hub.environment(tmp_path, HF_TOKEN=hub.token),
        )
        assert result.returncode == 0, result.stderr
        assert other.authorizations == {None}
    assert f"Bearer {hub.token}" in hub.authorizations
