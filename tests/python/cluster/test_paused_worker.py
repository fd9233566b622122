# SPDX-License-Identifier: Apache-2.0
"""A worker of this library that is paused, as by a debugger or a sleeping laptop: with the discovery "file",
other processes remove its entry.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from cluster_rig import NewCluster
from position_client import client, names, tokens
from sequence import continuation
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)


def test_it_registers_again(new_cluster: NewCluster) -> None:
    """It answers again when it continues, every token; before, it was healthy and out forever."""
    mine = new_cluster()
    config = {
        "endpoint": "backend.generate",
        "runtime": {
            "engine": "sequence:SequenceEngine",
            "python": {"path": [str(Path(__file__).parent)]},
        },
        "cluster": mine.settings,
        "model": {"name": "sequence"},
    }
    program = str(Path(__file__).with_name("serving.py"))
    worker = mine.python("worker", program, json.dumps(config))
    mine.wait(lambda: mine.keys("v1/mdc/"))
    with client(mine, {"wait_for_model_ms": 60000}, pipeline="off") as runtime:
        assert tokens(runtime.complete([5, 6], max_tokens=20)) == continuation([5, 6], 20)
        for _ in range(2):
            worker.pause()
            wait_until(lambda: not mine.keys("v1/instances/dynamo") and names(runtime) == [])
            worker.resume()
            assert tokens(runtime.complete([5, 7], max_tokens=20)) == continuation([5, 7], 20)
        assert len(mine.keys("v1/mdc/")) == 1 and len(mine.instances("dynamo.backend.generate")) == 1
        assert "serving" in worker.log.splitlines()[-1], worker.log
