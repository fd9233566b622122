# SPDX-License-Identifier: Apache-2.0
"""A worker process writes nothing to stderr for requests that it rejects."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import refusing
from cluster_rig import NewCluster
from dynamo_llm import ContextLengthError, EngineFailedError, InvalidRequestError, OverloadedError, Runtime

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

#: For each service: a valid request, one for each way in which its engine rejects or fails, and those that
#: the service itself rejects, with their error. (The raw service takes all that this library can send.)
requests: dict[str, tuple[Any, list[Any], list[tuple[Any, str]]]] = {
    "Text": (
        {"messages": [{"role": "user", "content": "good"}]},
        [{"messages": [{"role": "user", "content": way}]} for way in refusing.ways],
        [
            ({"messages": [], "nvext": 1}, '"nvext" of the request must be an object'),
            ("text", "must be an OpenAI request body"),
        ],
    ),
    "Tokens": (
        {"token_ids": [9]},
        [{"token_ids": [number]} for number, _ in enumerate(refusing.ways, 1)],
        [
            ({"token_ids": [9], "sampling_options": {"n": "two"}}, '"n" of the request must be an integer'),
            ({"token_ids": [9] * 64}, "context length is 64"),
        ],
    ),
    "Data": ("good", list(refusing.ways), []),
}
errors = (InvalidRequestError, OverloadedError, EngineFailedError)
words = ("that is refused", "too many guests", "a mistake of the engine")


@pytest.mark.parametrize("service", requests)
def test_nothing_on_stderr(new_cluster: NewCluster, tmp_path: Path, service: str) -> None:
    """The client gets typed errors with their message, and the worker answers the next request."""
    cluster = new_cluster("file-tcp-zmq")
    stderr = tmp_path / "stderr"
    config = {"engine": f"refusing:{service}", "python": {"path": [str(Path(__file__).parent)]}}
    options = [f"--config={json.dumps(config)}", f"--cluster={json.dumps(cluster.settings)}", "--json"]
    serve = [sys.executable, "-m", "dynamo_llm", "serve", "--endpoint=refusing.run", *options]
    redirected = ["bash", "-c", f'exec "$0" "$@" 2>\'{stderr}\'']
    worker = cluster.run("worker", [*redirected, *serve])
    cluster.wait(lambda: worker.log)  # it has printed its endpoint
    good, failing, refused = requests[service]
    with Runtime(
        engine="dynamo-endpoint", cluster=cluster.settings, options={"endpoint": "refusing.run"}
    ) as runtime:
        for error, text, request in zip(errors, words, failing, strict=True):
            assert runtime.data(good).result()
            with pytest.raises(error, match=text):
                runtime.data(request).result()
        for request, text in refused:
            with pytest.raises((InvalidRequestError, ContextLengthError), match=text):
                runtime.data(request).result()
        assert runtime.data(good).result()
    assert worker.terminate() == 0
    assert stderr.read_text() == ""
