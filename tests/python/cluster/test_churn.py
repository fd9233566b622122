# SPDX-License-Identifier: Apache-2.0
"""A client whose workers join and leave for a long time keeps its threads, descriptors, and memory."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from cluster_rig import NewCluster, Process
from position_client import client, names, position_worker, tokens
from sequence import continuation
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

#: With a lease of 30 seconds, a day has 2,880 of them; a worker that fails is rarer by orders of magnitude.
rounds = 60


def usage() -> tuple[int, int, int]:
    """Returns how many threads, descriptors, and MiB of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), memory


@pytest.mark.slow
@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-tcp-zmq"])
def test_workers_that_join_and_leave(new_cluster: NewCluster, combination: str) -> None:
    """Every token of the worker that stays is right meanwhile."""
    mine = new_cluster(combination)
    position_worker(mine, "--sequence")
    with client(mine, pipeline="off") as runtime:

        def joined(churning: Process, count: int) -> bool:
            prompt = [5, len(churning.log) % 100]
            answer = tokens(runtime.complete(prompt, model="position", max_tokens=5))
            assert answer == continuation(prompt, 5)
            return churning.log.count("joined") >= count

        wait_until(lambda: names(runtime) == ["position"])
        discovery = mine.combination.discovery
        worker = mine.python("churning", str(Path(__file__).with_name("churning.py")), discovery, str(rounds))
        worker.may_end = True
        wait_until(lambda: joined(worker, rounds // 3))
        before = usage()
        wait_until(lambda: joined(worker, rounds))
        assert worker.wait() == 0
        wait_until(lambda: names(runtime) == ["position"])
        after = usage()
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 8, (before, after)
    assert after[2] <= before[2] + 16, (before, after)
