# SPDX-License-Identifier: Apache-2.0
"""Secrets of a configuration appear in no error, log, metric, or repr."""

import json
import logging
import sys
from typing import Any

import dynamo_llm
import pytest
from conftest import run
from reliability import reliability

secret = "c4n4ry-5ecret"

ask = """
import json, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import dynamo_llm
config = sys.argv[1]
try:
    with dynamo_llm.Runtime(config) as runtime:
        print(repr(runtime), runtime.models(), runtime.statistics(), runtime.metrics())
        try:
            print(runtime.chat("a").result().text)
        except dynamo_llm.DynamoError as error:
            print(repr(error), error.details)
except dynamo_llm.DynamoError as error:
    print(repr(error), error.details)
print("asked")
"""


def openai(**options: Any) -> dict[str, Any]:
    """Returns a configuration of the engine openai whose server does not exist."""
    return {"engine": "openai", "model": "m", "options": {"base_url": "http://127.0.0.1:9/v1", **options}}


def cluster(**keys: Any) -> dict[str, Any]:
    """Returns a configuration of the engine dynamo whose server does not exist."""
    return {
        "engine": "dynamo",
        "cluster": {"etcd": ["http://127.0.0.1:9"], "connect_timeout_ms": 100, **keys},
    }


configs: dict[str, Any] = {
    "a key": openai(api_key=secret),
    "a key, without asking the server first": openai(api_key=secret, check_server=False, max_retries=0),
    "a key that is a list": openai(api_key=[secret]),
    "a key beside a wrong option": openai(api_key=secret, apikey="x"),
    "a key that cannot be in a header": openai(api_key=f"{secret}\n"),
    "a header": openai(headers={"X-Key": secret}),
    "a header with a line break": openai(headers={"X-Key": f"{secret}\nb"}),
    "a header that is not a string": openai(headers={"X-Key": [secret]}),
    "a password in a URL": openai(base_url=f"http://user:{secret}@127.0.0.1:9/v1"),
    "a password in a URL of another scheme": openai(base_url=f"ftp://user:{secret}@127.0.0.1:9/v1"),
    "a password in a URL with a query": openai(base_url=f"http://user:{secret}@127.0.0.1:9/v1?a=b"),
    "a password of a proxy": openai(proxy=f"http://user:{secret}@127.0.0.1:9", max_retries=0),
    "a password of a proxy of another scheme": openai(proxy=f"ftp://user:{secret}@127.0.0.1:9"),
    "a password of etcd": cluster(tls={"etcd": {"username": "u", "password": secret}}),
    "a password of etcd that is a list": cluster(tls={"etcd": {"username": "u", "password": [secret]}}),
    "a password in etcd's URL": cluster(etcd=[f"http://u:{secret}@127.0.0.1:9"]),
    "a password in a URL of etcd that is none": cluster(etcd=[f"u:{secret}@127.0.0.1"]),
    "a token of NATS": cluster(nats="nats://127.0.0.1:9", tls={"nats": {"token": secret}}),
    "a password in NATS' URL": cluster(nats=f"nats://u:{secret}@127.0.0.1:9"),
    "a key in JSON that is cut off": f'{{"options": {{"api_key": "{secret}',
    "a key in JSON with a line break": f'{{"options": {{"api_key": "{secret}\n"}}}}',
    "a key without quotes": f'{{"options": {{"api_key": {secret}}}}}',
}


@pytest.mark.many(4)
@pytest.mark.parametrize("where", configs)
def test_secrets_appear_nowhere(where: str) -> None:
    """Neither in errors and their details, logs, and metrics, nor in the repr of objects."""
    config = configs[where]
    text = config if isinstance(config, str) else json.dumps(config)
    result = run([sys.executable, "-c", ask, text])
    assert result.stdout.endswith("asked\n"), result.stderr
    assert secret not in result.stdout + result.stderr
    reliability(f"{where} in a configuration", 1, "in no error, log or metric")


def test_a_key_of_the_environment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("DYNAMO_TEST_KEY", secret)
    with pytest.raises(dynamo_llm.DynamoError) as caught:
        dynamo_llm.Runtime(openai(api_key_env="DYNAMO_TEST_KEY"))
    assert secret not in str(caught.value) + json.dumps(caught.value.details) + caplog.text
    doctor = run(
        [sys.executable, "-m", "dynamo_llm", "doctor"], {"DYNAMO_TEST_KEY": secret, "OPENAI_API_KEY": secret}
    )
    assert doctor.stdout and secret not in doctor.stdout + doctor.stderr
