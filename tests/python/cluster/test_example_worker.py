# SPDX-License-Identifier: Apache-2.0
"""The example worker, and ``dynamo-llm serve``: their output and their exit."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster, NewCluster, Process
from cluster_worker import post, stream
from conftest import Completed, compile_c, dynamo_config, run, tests_dir
from dynamo_llm import InvalidHandleError, Worker, paths

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

examples_dir = tests_dir.parent / "examples"
question = {"messages": [{"role": "user", "content": "What is a KV cache?"}]}
program = [sys.executable, "-m", "dynamo_llm"]
path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture
def alone(new_cluster: NewCluster) -> Cluster:
    """A cluster for one test, without servers."""
    return new_cluster("file-tcp-zmq")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A writable copy of examples/cluster."""
    for name in ("cluster", "engines"):
        shutil.copytree(examples_dir / name, tmp_path / name)
    return tmp_path / "cluster"


def started(cluster: Cluster, name: str, command: Sequence[str | Path]) -> Process:
    """Starts a worker; returns once it has printed its endpoint."""
    process = cluster.run(name, command, {"PATH": path})
    cluster.wait(lambda: process.log.endswith("\n"))
    return process


def serve(cluster: Cluster, *words: str) -> Process:
    """Starts ``dynamo-llm serve``."""
    return started(cluster, "serve", [*program, "serve", "--cluster", json.dumps(cluster.settings), *words])


def serve_badly(cluster: dict[str, Any], *words: str) -> Completed:
    """Runs ``dynamo-llm serve`` with a wrong configuration until it exits."""
    return run([*program, "serve", "--engine=echo", "--cluster", json.dumps(cluster), *words])


def shell(text: str, cluster: Cluster, folder: Path) -> list[str]:
    """Returns the command that runs a script in that folder, with this cluster instead of /tmp/cluster."""
    assert "/tmp/cluster" in text
    there = cluster.settings["path"]
    return ["bash", "-ec", f"cd {shlex.quote(str(folder))}\n" + text.replace("/tmp/cluster", there)]


def ask_both(cluster: Cluster, folder: Path, model: str) -> None:
    """Asks through the library's client, as in ask.sh, and through Dynamo's frontend."""
    client = cluster.run("ask", shell((folder / "ask.sh").read_text(), cluster, folder), {"PATH": path})
    assert client.wait() == 0, client.log
    assert client.log.strip()
    cluster.wait(lambda: model in (cluster.models() or []) and cluster.frontend.instances())
    body = {"model": model, **question, "max_tokens": 40, "ignore_eos": True}
    status, answer = post(f"{cluster.url}/chat/completions", body)
    assert status == 200 and answer["choices"][0]["message"]["content"], answer


def test_the_example_as_its_comment_says(alone: Cluster, folder: Path) -> None:
    """Builds and runs it with the commands of its comment."""
    comment = (folder / "worker.c").read_text().split("*/")[0]
    lines = [line.removeprefix(" *     ") for line in comment.splitlines() if line.startswith(" *     ")]
    assert lines[-1].startswith("./worker MODEL_FOLDER ")
    lines[-1] = "exec " + lines[-1].replace("MODEL_FOLDER", shlex.quote(str(paths.demo_model_dir())))
    worker = started(alone, "worker", shell("\n".join(lines), alone, folder))
    info = json.loads(worker.log)
    assert (info["state"], info["model"], info["endpoint"]) == (
        "serving",
        "babble",
        "dynamo.backend.generate",
    )
    ask_both(alone, folder, "babble")
    body = {"model": "babble", **question, "max_tokens": 500, "ignore_eos": True}
    events = stream(f"{alone.url}/chat/completions", {**body, "stream_options": {"include_usage": True}})
    next(events)
    worker.may_end = True
    os.kill(worker.pid, signal.SIGTERM)
    assert [event["usage"] for event in events if event.get("usage")][-1]["completion_tokens"] == 500
    assert worker.wait() == 0
    assert json.loads(worker.log) == info, "it says no more"
    assert not alone.keys("v1/mdc/") and not alone.instances("dynamo.backend.generate")


def test_the_scripts(alone: Cluster, folder: Path) -> None:
    """worker.sh and ask.sh."""
    worker = started(alone, "worker", shell((folder / "worker.sh").read_text(), alone, folder))
    ask_both(alone, folder, "babble")
    assert worker.terminate() == 0


def test_errors_of_the_example(folder: Path, alone: Cluster) -> None:
    build = re.split(r"^exec ", (folder / "worker.sh").read_text(), flags=re.M)[0]
    assert run(["bash", "-ec", build], {"PATH": path}, cwd=folder).returncode == 0
    model = str(paths.demo_model_dir())
    environment = {"PATH": path, "HOME": str(folder)}
    for words, message in (
        ([], "usage: worker MODEL_FOLDER"),
        (["/none", json.dumps(alone.settings)], '"/none'),
        ([model, '{"discovery": "x"}'], '"cluster.discovery" of the configuration'),
    ):
        result = run([folder / "worker", *words], environment)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("worker: ") and message in result.stderr


def test_serve_a_text_engine(alone: Cluster, folder: Path) -> None:
    """Serves echo, with JSON output; a request in flight completes after SIGTERM."""
    config = {"engine": "echo", "options": {"tokens_per_second": 20}}
    worker = serve(alone, "--config", json.dumps(config), "--model-name=parrot", "--json")
    info = json.loads(worker.log)
    assert (info["state"], info["kind"], info["model"]) == ("serving", "text", "parrot")
    ask_both(alone, folder, "parrot")
    words = " ".join(str(number) for number in range(30))
    body = {"model": "parrot", "messages": [{"role": "user", "content": words}]}
    events = stream(f"{alone.url}/chat/completions", body)
    parts = [next(events)]
    worker.may_end = True
    os.kill(worker.pid, signal.SIGTERM)
    parts += list(events)
    said = [part["choices"][0]["delta"].get("content") or "" for part in parts if part["choices"]]
    assert "".join(said) == words
    assert worker.wait() == 0
    assert worker.log.splitlines()[1:] == ['{"ended": "drained"}']


def test_serve_the_demo_model(alone: Cluster, folder: Path) -> None:
    """Requires no option except the cluster."""
    worker = serve(alone)
    found = re.fullmatch(
        r'Serving the model "(.+)" at dynamo\.backend\.generate\. Press Ctrl-C to stop\.\n', worker.log
    )
    assert found, worker.log
    ask_both(alone, folder, found[1])
    before = worker.log
    worker.may_end = True
    os.kill(worker.pid, signal.SIGINT)
    assert (worker.wait(), worker.log) == (0, before)


@pytest.mark.parametrize("as_json", [False, True])
def test_serve_interrupted_twice(alone: Cluster, as_json: bool) -> None:
    """The second interrupt cancels the requests in flight; their callers get an error."""
    config = {"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}}
    flags = ["--json"] if as_json else []
    worker = serve(alone, "--config", json.dumps(config), "--model-name=parrot", "--drain=1000", *flags)
    alone.wait(lambda: "parrot" in (alone.models() or []) and alone.frontend.instances())
    with ThreadPoolExecutor(1) as threads:
        events = stream(f"{alone.url}/chat/completions", {"model": "parrot", **question})
        next(events)
        rest = threads.submit(list, events)
        worker.may_end = True
        os.kill(worker.pid, signal.SIGINT)
        try:
            if as_json:
                alone.wait(lambda: not alone.instances("dynamo.backend.generate"))
            else:
                alone.wait(lambda: "1 request in flight. Press Ctrl-C again to cancel." in worker.log)
        finally:  # otherwise the thread would read forever
            os.kill(worker.pid, signal.SIGINT)
        assert worker.wait() == 130, worker.log
        assert "error" in rest.result()[-1]
    if as_json:
        assert json.loads(worker.log.splitlines()[-1]) == {"ended": "interrupted"}


@pytest.mark.parametrize("as_json", [False, True])
def test_serve_drain_timeout(alone: Cluster, as_json: bool) -> None:
    config = {"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}}
    flags = ["--json"] if as_json else []
    worker = serve(alone, "--config", json.dumps(config), "--model-name=parrot", "--drain=0.1", *flags)
    alone.wait(lambda: "parrot" in (alone.models() or []) and alone.frontend.instances())
    events = stream(f"{alone.url}/chat/completions", {"model": "parrot", **question})
    next(events)
    worker.may_end = True
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait() == 1
    assert "error" in list(events)[-1]
    last = worker.log.splitlines()[-1]
    if as_json:
        ended = json.loads(last)
        assert (ended["ended"], ended["error"]["name"]) == ("failed", "DYNAMO_ERROR_DEADLINE_EXCEEDED")
    else:
        assert last == "dynamo-llm: 1 request(s) had not ended after 0.1 s and were cancelled"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_interrupted_at_the_start(
    alone: Cluster, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """An interrupt does not wait for a slow model to load."""
    (tmp_path / "slow_engine.py").write_text(
        "import time\n"
        "class Slow:\n"
        "    def __init__(self, config): pass\n"
        "    def start(self):\n"
        "        print('loading', flush=True)\n"
        "        time.sleep(1000)\n"
        "    def generate(self, request): return iter(())\n"
        "    def stop(self): pass\n"
    )
    config = {"engine": "slow_engine:Slow", "python": {"path": [str(tmp_path)]}}
    worker = serve(alone, "--config", json.dumps(config))
    assert worker.log == "loading\n"
    worker.may_end = True
    os.kill(worker.pid, number)
    assert (worker.wait(), worker.log) == (code, "loading\n")


def test_a_worker_that_is_closed_twice(alone: Cluster) -> None:
    """The second call has no effect; using the worker is an error."""
    keys: dict[str, Any] = {"runtime": {"engine": "echo"}, "cluster": alone.settings}
    with Worker(endpoint="twice.run", **keys) as worker:
        worker.close()
        worker.close()
        with pytest.raises(InvalidHandleError):
            _ = worker.info


def test_errors_of_serve(alone: Cluster) -> None:
    """Each error is on stderr, or JSON."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        absent = f"http://127.0.0.1:{closed.getsockname()[1]}"
        away = {"etcd": [absent], "connect_timeout_ms": 1000}
        for cluster, words, message in (
            ({"discovery": "x"}, [], '"cluster.discovery" of the configuration'),
            ({"discovry": "file"}, [], 'did you mean "cluster.discovery"'),
            (alone.settings, ["--endpoint=a.b.c.d"], "must be namespace.component.endpoint"),
            (alone.settings, ["--engine=nope"], "nope"),
            (away, [], absent),
        ):
            result = serve_badly(cluster, *words)
            assert (result.returncode, result.stdout) == (1, ""), result.stderr
            assert message in result.stderr and "Traceback" not in result.stderr
        result = serve_badly(away, "--json")
        error = json.loads(result.stdout)["error"]
        assert (result.returncode, result.stderr, error["name"]) == (1, "", "DYNAMO_ERROR_UNAVAILABLE")
        assert absent in error["message"]
    for text, message in (("{", "is not JSON"), ("/none", "cannot be read"), ('{"etcd": 1}{', "not JSON")):
        result = run([*program, "serve", "--cluster", text])
        assert (result.returncode, result.stdout) == (2, "") and message in result.stderr


@pytest.mark.parametrize("language", ["python", "c"])
def test_publish(tmp_path: Path, language: str) -> None:
    """The example of a KV publisher needs nothing but a folder."""
    variables = {"PATH": path, "HOME": str(tmp_path)}
    if language == "python":
        result = run([sys.executable, examples_dir / "cluster" / "publish.py", tmp_path])
    else:
        flags = dynamo_config("--cflags", "--libs").split()
        program = compile_c(examples_dir / "cluster" / "publish.c", tmp_path / "publish", *flags)
        result = run([program, json.dumps({"discovery": "file", "path": str(tmp_path / "kv")})], variables)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"worker \d+ has 3 blocks of the prompt\n", result.stdout)


def test_tools(alone: Cluster, tmp_path: Path) -> None:
    """The example of an endpoint that is not a model, and the one that calls it."""
    flags = dynamo_config("--cflags", "--libs").split()
    tools, call = (
        compile_c(examples_dir / "cluster" / f"{name}.c", tmp_path / name, "-pthread", *flags)
        for name in ("tools", "call")
    )
    cluster = json.dumps(alone.settings)
    worker = started(alone, "tools", [tools, cluster])
    info = json.loads(worker.log)
    assert (info["state"], info["kind"], info["endpoint"]) == ("serving", "data", "dynamo.tools.call")
    client = alone.run("call", [call, "tools.call", '{"question": 1}', cluster], {"PATH": path})
    assert client.wait() == 0, client.log
    page = examples_dir.parent / "docs" / "snippets" / "cluster" / "tools.out"
    assert client.log == page.read_text()
    worker.may_end = True
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait() == 0
