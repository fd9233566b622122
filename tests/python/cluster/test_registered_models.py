# SPDX-License-Identifier: Apache-2.0
"""Models that workers have registered and that cannot be used, or not as configured: the reason is at once in
the error, and once in the log.
"""

import importlib.util
import json
import logging
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_rig import NewCluster
from conftest import tests_dir
from dynamo_llm import NotSupportedError, Runtime, UnavailableError
from dynamo_llm.runtime.cluster.client import registered_models
from dynamo_llm.runtime.engines import dynamo
from position_client import client, names, position_worker, tokens
from sequence import continuation
from waiting import patience, wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)


class Recorder(logging.Handler):
    """Keeps the warnings about clusters."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one."""
        self.texts.append(record.getMessage())

    def __call__(self, pattern: str) -> int:
        """Returns how many match."""
        return len([text for text in self.texts if re.search(pattern, text)])


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Records the warnings of a test."""
    monkeypatch.setattr(dynamo, "_report_interval", 0.2)
    recorder = Recorder()
    logging.getLogger("dynamo_llm.cluster").addHandler(recorder)
    yield recorder
    logging.getLogger("dynamo_llm.cluster").removeHandler(recorder)


@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-tcp-zmq"])
def test_text_models_with_the_router_kv(
    new_cluster: NewCluster, warnings: Recorder, combination: str
) -> None:
    """Dynamo refuses them, as in the README's example; they are used in turn."""
    mine = new_cluster(combination, lease_ttl=5)
    text = position_worker(mine, "--text", "--name=words", "--component=words")
    position_worker(mine, "--sequence")
    with client(mine, settings={"router": "kv"}) as runtime:
        wait_until(lambda: names(runtime) == ["position", "words"])
        answer = runtime.complete("hi", model="words", max_tokens=3)
        assert "".join(response.text for response in answer) == "0 1 2 "
        assert tokens(runtime.complete([5], model="position", max_tokens=9)) == continuation([5], 9)
        assert warnings('"words" takes text: the "router" "kv"') == 1
        text.kill()
        wait_until(lambda: names(runtime) == ["position"])


def test_a_model_that_cannot_be_used(new_cluster: NewCluster, warnings: Recorder) -> None:
    """The error comes at once, also if the request names no model, or another model is there."""
    mine = new_cluster()
    position_worker(mine, "--completions", "--name=old", "--component=old")
    with client(mine, {"wait_for_model_ms": 60000, "frontend": False}) as runtime:
        for model in ({}, {"model": "old"}):
            start = time.monotonic()
            with pytest.raises(NotSupportedError, match=r'"old".*serves Completions'):
                runtime.complete([5], max_tokens=2, **model).result()
            assert time.monotonic() - start < 10
        position_worker(mine, "--sequence")
        wait_until(lambda: names(runtime) == ["position"])
        with pytest.raises(NotSupportedError, match=r'"old".*serves Completions'):
            runtime.complete([5], model="old", max_tokens=2).result()
        assert tokens(runtime.complete([5], max_tokens=9)) == continuation([5], 9)


def test_a_worker_whose_card_differs(new_cluster: NewCluster, warnings: Recorder) -> None:
    """The log names the worker and the key, once."""
    mine = new_cluster()
    position_worker(mine, "--sequence")
    with client(mine) as runtime:
        position_worker(mine, "--sequence", "--context-length=512")
        pattern = (
            r'model "position" at dynamo\.position\.generate.*"context_length" is (512 and 1024|1024 and 512)'
        )
        wait_until(lambda: warnings(pattern))
        time.sleep(1)
        assert warnings("have registered different cards") == 1
        for number in range(4):
            assert tokens(runtime.complete([5, number], max_tokens=9)) == continuation([5, number], 9)


def test_watches_that_are_used_up(
    new_cluster: NewCluster, warnings: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the limit. It is faked: the real one is that of all processes of the user."""
    mine = new_cluster()
    with client(mine, {"wait_for_model_ms": 60000}) as runtime:
        limit = "this user has no inotify instances left"
        monkeypatch.setattr(registered_models, "_used_up_limit", lambda: limit)
        monkeypatch.setattr(dynamo.Frontend, "names", lambda _: [])  # Dynamo lists no new models then
        position_worker(mine, "--sequence")
        with pytest.raises(UnavailableError, match=rf'cannot watch .* the model "position".*{limit}'):
            runtime.complete([5], max_tokens=2).result()
        wait_until(lambda: warnings(limit) == 1)


def test_the_limit_itself() -> None:
    """It is used up in a namespace of its own, where other processes do not count."""
    program = """
import ctypes
from dynamo_llm.runtime.cluster.client.registered_models import _used_up_limit
assert _used_up_limit() is None
for _ in range(3):
    assert ctypes.CDLL(None).inotify_init1(0) >= 0
print(_used_up_limit())
"""
    limit = "echo 3 > /proc/sys/user/max_inotify_instances"
    prefix = ["unshare", "-Ur", "sh", "-c", f'{limit} && exec "$@"', "sh"]
    try:
        is_allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_allowed = False
    if not is_allowed:
        pytest.skip("this system allows no user namespace with a limit of its own")
    result = subprocess.run(
        [*prefix, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert "sysctl fs.inotify.max_user_instances=" in result.stdout, result.stderr


def test_the_lines_of_the_readme(new_cluster: NewCluster) -> None:
    """The worker of the README answers its client, whose router is "kv"."""
    mine = new_cluster("etcd-tcp-zmq")
    assert mine.etcd is not None
    text = (tests_dir.parent / "README.md").read_text().replace("http://127.0.0.1:2379", mine.etcd.url)
    (configuration,) = re.findall(r'^\{"engine": "dynamo".*\}$', text, re.MULTILINE)
    (command,) = re.findall(r"^dynamo-llm serve --model-name .*--cluster .*$", text, re.MULTILINE)
    program, *words = shlex.split(command)
    mine.run("worker", [Path(sys.executable).with_name(program), *words])
    with Runtime({**json.loads(configuration), "options": {"wait_for_model_ms": 60000}}) as runtime:
        answer = runtime.chat("What is a KV cache?", max_tokens=20).result()
        assert answer.text and answer.usage.completion_tokens
        assert [model["id"] for model in runtime.models()] == ["demo"]
