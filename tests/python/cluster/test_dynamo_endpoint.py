# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo-endpoint`` against endpoints that NVIDIA Dynamo's own package serves."""

import importlib.util
import itertools
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster, NewCluster, Process
from conftest import run, tests_dir
from dynamo_llm import (
    DeadlineExceededError,
    EngineFailedError,
    InvalidConfigError,
    InvalidRequestError,
    NotSupportedError,
    OverloadedError,
    Runtime,
    UnavailableError,
)

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

_numbers = itertools.count()


@pytest.fixture
def compile_example(tmp_path: Path) -> Path:
    """Compiles call.c as its comment describes."""
    source = tests_dir.parent / "examples" / "cluster" / "call.c"
    command = re.search(r"^ \*     (gcc .*)$", source.read_text(), re.M)
    assert command is not None
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    folder = tmp_path / "example"
    folder.mkdir()
    shutil.copy(source, folder)
    result = run(
        ["sh", "-ec", command[1].replace("gcc", "gcc -Wall -Wextra -Werror")], {"PATH": path}, cwd=folder
    )
    assert result.returncode == 0, result.stderr
    return folder / "call"


def served(cluster: Cluster) -> Process:
    """Starts a process that serves dynamo.tools.call; returns when it is registered."""
    combination = cluster.combination
    before = len(cluster.instances("dynamo.tools.call"))
    worker = cluster.python(
        f"endpoint{next(_numbers)}",
        str(Path(__file__).with_name("endpoint_worker.py")),
        f"--discovery={combination.discovery}",
        f"--request-plane={combination.request_plane}",
        f"--event-plane={combination.event_plane}",
    )
    cluster.wait(lambda: len(cluster.instances("dynamo.tools.call")) > before)
    return worker


def said(worker: Process, key: str) -> list[Any]:
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return [line[key] for line in lines if key in line]


def caller(cluster: Cluster, endpoint: str = "tools.call", **more: Any) -> Runtime:
    options = {"endpoint": endpoint, **more.pop("options", {})}
    return Runtime(engine="dynamo-endpoint", cluster={**cluster.settings, **more}, options=options)


def test_json_and_bytes(cluster: Cluster) -> None:
    worker = served(cluster)
    try:
        with caller(cluster) as runtime:
            values: list[Any] = [{"a": [1, None, "ü", 2**60, -1, 0.25]}, [], "text", b"", b"\x00\xff" * 1000]
            for value in values:
                assert runtime.data(value).result() == [value]
            numbers = runtime.data({"do": "count", "count": 3000}).result()
            assert numbers == [{"number": number} for number in range(3000)]
            requests = [runtime.data({"do": "count", "count": n}) for n in range(40)]
            assert [len(request.result()) for request in requests] == list(range(40))
    finally:
        worker.may_end = True
        worker.kill()


def test_in_c(new_cluster: NewCluster, compile_example: Path) -> None:
    cluster = new_cluster("file-tcp-zmq")
    served(cluster)
    settings = json.dumps(cluster.settings)
    python = {"DYNAMO_LLM_PYTHON": sys.executable}
    result = run([compile_example, "tools.call", '{"do": "count", "count": 3}', settings], python)
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"number": n} for n in range(3)]
    result = run([compile_example, "tools.call", '{"do": "refuse"}', settings], python)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "call: that is wrong\n"


def test_errors_and_ends(new_cluster: NewCluster) -> None:
    cluster = new_cluster("file-tcp-zmq")
    worker = served(cluster)
    with caller(cluster) as runtime:
        with pytest.raises(InvalidRequestError, match="that is wrong"):
            runtime.data({"do": "refuse"}).result()
        with pytest.raises(OverloadedError, match="too much"):
            runtime.data({"do": "overload"}).result()
        request = runtime.data({"do": "break"})
        with pytest.raises(EngineFailedError, match="broken"):
            list(request)
        with pytest.raises(EngineFailedError, match="neither bytes nor a JSON value"):
            runtime.data({"do": "nested bytes"}).result()
        with pytest.raises(NotSupportedError, match="accepts raw requests only"):
            runtime.chat("hi").result()

        request = runtime.data({"do": "hang"})
        first = request.receive()
        assert first is not None and first.items == ["hanging"]
        request.cancel()
        cluster.wait(lambda: len(said(worker, "stopped")) == 1)
        assert said(worker, "stopped") == [request.id]
        with pytest.raises(DeadlineExceededError):
            runtime.data({"do": "hang"}, timeout=0.2).result()
        cluster.wait(lambda: len(said(worker, "stopped")) == 2)

        (metadata,) = runtime.data({"do": "metadata"}, timeout=60).result()
        assert 0 < float(metadata["dynamo-llm-deadline-seconds"]) <= 60

        request = runtime.data({"do": "hang"})
        request.receive()
        worker.may_end = True
        worker.kill()
        with pytest.raises(UnavailableError):
            request.result()


def test_a_silent_instance(new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be silent for any time: the limit for models does not apply."""
    monkeypatch.setenv("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", "1")
    mine = new_cluster()
    served(mine)
    with caller(mine) as runtime, pytest.raises(DeadlineExceededError):
        runtime.data({"do": "hang"}, timeout=3).result()


def test_one_instance_of_two(new_cluster: NewCluster) -> None:
    cluster = new_cluster("file-tcp-zmq")
    workers = [served(cluster), served(cluster)]
    (instance,) = said(workers[1], "instance")
    with caller(cluster, router="direct", options={"instance": instance}) as runtime:
        requests = [runtime.data({"do": "hang"}) for _ in range(4)]
        for request in requests:
            request.receive()
            request.cancel()
    cluster.wait(lambda: len(said(workers[1], "stopped")) == 4)
    assert said(workers[0], "stopped") == []


def test_no_time_to_wait(new_cluster: NewCluster) -> None:
    """A live instance answers even the first request; without one the request fails at once."""
    cluster = new_cluster("file-tcp-zmq")
    worker = served(cluster)
    with caller(cluster, options={"wait_for_instance_ms": 0}) as runtime:
        for _ in range(2):
            assert runtime.data({"do": "metadata"}).result()
        worker.may_end = True
        worker.kill()
        cluster.wait(lambda: not cluster.instances("dynamo.tools.call"))
    with (
        caller(cluster, options={"wait_for_instance_ms": 0}) as runtime,
        pytest.raises(UnavailableError, match="for 0 ms"),
    ):
        runtime.data({"do": "metadata"}).result()


def test_an_endpoint_without_instances(new_cluster: NewCluster) -> None:
    cluster = new_cluster("file-tcp-zmq")
    with caller(cluster, "tools.nobody", options={"wait_for_instance_ms": 100}) as runtime:
        with pytest.raises(UnavailableError, match=r"no instance served dynamo\.tools\.nobody .* for 100 ms"):
            runtime.data(1).result()
        assert runtime.models()[0]["path"] == "dynamo.tools.nobody"
    with caller(cluster, "other.tools.late") as runtime, pytest.raises(DeadlineExceededError):
        runtime.data(1, timeout=0.2).result()


@pytest.mark.parametrize(
    ("options", "cluster", "says"),
    [
        ({}, {}, 'the endpoint "" must be namespace.component.endpoint'),
        ({"endpoint": "a"}, {}, 'the endpoint "a" must be'),
        ({"endpoint": "a..b"}, {}, 'the endpoint "a..b" must be'),
        ({"endpiont": "a.b"}, {}, r'did you mean "options\.endpoint"'),
        ({"endpoint": "a.b"}, {"router": "kv"}, "selects by token ids"),
        ({"endpoint": "a.b"}, {"router": "direct"}, "require each other"),
        ({"endpoint": "a.b", "instance": 1}, {}, "require each other"),
        ({"endpoint": "a.b", "wait_for_instance_ms": -1}, {}, "must be an integer of at least 0, not -1"),
    ],
)
def test_wrong_settings(options: dict[str, Any], cluster: dict[str, Any], says: str, tmp_path: Path) -> None:
    whole = {"discovery": "file", "path": str(tmp_path), **cluster}
    with pytest.raises(InvalidConfigError, match=says):
        Runtime(engine="dynamo-endpoint", cluster=whole, options=options)
