# SPDX-License-Identifier: Apache-2.0
"""Measures Dynamo's own frontend, an HTTP server written in Rust, and the engine "dynamo" in the program.
Both send requests to Dynamo's mocker, a worker written in Rust that generates tokens as fast as possible.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import Bench, Measured, free_port
from cluster import new_cluster
from dynamo_llm.paths import demo_model_dir
from programs import Side
from ratio import measure

#: Timeout in seconds for servers to start, and to end.
_patience = 60.0
_flags = ("--discovery-backend=file", "--request-plane=tcp", "--event-plane=zmq")
_speed = (
    "--speedup-ratio=1000000",
    "--max-num-seqs=4096",
    "--block-size=16",
    "--num-gpu-blocks-override=100000",
)


@contextmanager
def _running(
    module: str, arguments: Sequence[str], variables: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a Python module as a process, whose log is shown if it ends by itself."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
        try:
            yield process
        finally:
            has_ended = process.poll() is not None
            process.kill()
            process.wait()
            if has_ended:
                log.seek(0)
                sys.stderr.write(log.read().decode(errors="replace")[-4000:])


def _wait_for_model(url: str) -> None:
    limit = time.monotonic() + _patience
    while True:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5) as answer:
                if json.load(answer)["data"]:
                    return
        except OSError:
            pass
        if time.monotonic() > limit:
            raise TimeoutError(f"Dynamo's frontend at {url} knew no model in {_patience:.0f} s")
        time.sleep(0.2)


class _Rig:
    """A cluster with Dynamo's mocker as worker, its frontend, and the two programs that read answers."""

    def __init__(self, bench: Bench, streams: int, tokens: int, bursts: int, stack: ExitStack) -> None:
        model, port = str(demo_model_dir()), free_port()
        url = f"http://127.0.0.1:{port}/v1"
        body = {"model": model, "prompt": "Hello", "max_tokens": tokens, "ignore_eos": True, "stream": True}
        flags = subprocess.run(["curl-config", "--libs"], check=True, capture_output=True, text=True)
        client = bench.programs.compile("http", *flags.stdout.split(), with_library=False)
        settings, variables = stack.enter_context(new_cluster("dynamo"))
        variables = {**variables, "HF_HUB_OFFLINE": "1"}
        mocker = ["--model-path", model, "--model-name", model, "--endpoint", "dyn://dynamo.mocker.generate"]
        stack.enter_context(_running("dynamo.mocker", [*mocker, *_speed, *_flags], variables))
        place = ("--http-host=127.0.0.1", f"--http-port={port}")
        self._frontend = stack.enter_context(_running("dynamo.frontend", [*place, *_flags], variables))
        _wait_for_model(url)
        text, counts = json.dumps(body), [str(streams), str(bursts)]
        configuration = json.dumps({"engine": "dynamo", "cluster": settings})
        drain = [bench.programs.compile("drain"), configuration, text, counts[0], "1", counts[1]]
        self._base = stack.enter_context(Side([client, f"{url}/completions", text, *counts]))
        self._ours = stack.enter_context(Side(drain))
        self._count = streams * tokens * bursts

    def ours(self) -> dict[str, float]:
        """Runs a round of the engine "dynamo"."""
        return self._checked(self._ours.round())

    def base(self) -> dict[str, float]:
        """Runs a round of Dynamo's frontend and libcurl; "cpu" is that of both."""
        before = _cpu_seconds(self._frontend.pid)
        result = self._checked(self._base.round())
        return {**result, "cpu": result["cpu"] + _cpu_seconds(self._frontend.pid) - before}

    def _checked(self, result: dict[str, float]) -> dict[str, float]:
        if result["tokens"] < 0.9 * self._count:  # the HTTP client does not see tokens without a text
            raise RuntimeError(f"{result['tokens']} of {self._count} tokens came")
        return result


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare_frontend(
    streams: int, tokens: int, key: str = "seconds", bursts: int = 1
) -> Callable[[Bench, bool], Measured]:
    """Compares the engine "dynamo" in C with Dynamo's frontend, read by libcurl.

    :param key: what is compared, of :class:`_Rig`'s results: less is better.
    """

    def run(bench: Bench, is_pinned: bool) -> Measured:
        with ExitStack() as stack:
            rig = _Rig(bench, streams, int(bench.of(tokens)), bursts, stack)
            return measure(lambda: 1 / rig.ours()[key], lambda: 1 / rig.base()[key], bench.rounds)

    return run
