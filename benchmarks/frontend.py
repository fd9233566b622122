# SPDX-License-Identifier: Apache-2.0
"""Measures Dynamo's own frontend, an HTTP server written in Rust, and the engine "dynamo" in the program.
Both send requests to Dynamo's sample worker, which generates tokens as fast as possible.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bench import Bench, Measured, free_port
from cluster import new_cluster
from dynamo_llm.paths import demo_model_dir
from programs import Side
from ratio import measure

#: Timeout in seconds for servers to start, and to end.
_patience = 60.0
_flags = ("--discovery-backend=file", "--request-plane=tcp", "--event-plane=zmq")
_streams = 16


@contextmanager
def _running(module: str, arguments: Sequence[str], variables: Mapping[str, str]) -> Iterator[None]:
    """Runs a Python module as a process, whose log is shown if it ends by itself."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
        try:
            yield
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


def measure_frontend(bench: Bench, is_pinned: bool) -> Measured:
    """Measures tokens per second of 16 streams, both sides in turns."""
    model, port = str(demo_model_dir()), free_port()
    url = f"http://127.0.0.1:{port}/v1"
    count = int(bench.of(200))
    body: dict[str, Any] = {"model": model, "prompt": "Hello", "max_tokens": count, "stream": True}
    names = ("--namespace=dynamo", "--component=sample", "--endpoint=generate")
    flags = subprocess.run(["curl-config", "--libs"], check=True, capture_output=True, text=True)
    client = bench.programs.compile("http", *flags.stdout.split(), with_library=False)
    with ExitStack() as stack:
        settings, variables = stack.enter_context(new_cluster("dynamo"))
        sample = [*names, f"--model-name={model}", "--delay=0", *_flags]
        variables = {**variables, "HF_HUB_OFFLINE": "1"}
        stack.enter_context(_running("dynamo.common.backend.sample_main", sample, variables))
        place = ("--http-host=127.0.0.1", f"--http-port={port}")
        stack.enter_context(_running("dynamo.frontend", [*place, *_flags], variables))
        _wait_for_model(url)
        text = json.dumps(body)
        configuration = json.dumps({"engine": "dynamo", "cluster": settings})
        drain = [bench.programs.compile("drain"), configuration, text, str(_streams), "1"]
        base = stack.enter_context(Side([client, f"{url}/completions", text, str(_streams)], is_pinned))
        ours = stack.enter_context(Side(drain, is_pinned))

        def speed(side: Side) -> float:
            return _streams * count / float(side.round()["seconds"])

        return measure(lambda: speed(ours), lambda: speed(base), bench.rounds)
