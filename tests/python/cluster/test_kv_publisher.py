# SPDX-License-Identifier: Apache-2.0
"""KV publishers in a cluster without servers, workers, and routers."""

import asyncio
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import run_python
from dynamo_llm import (
    InvalidArgumentError,
    InvalidHandleError,
    InvalidStateError,
    KvCleared,
    KvPublisher,
    KvRemoved,
    KvStored,
)
from waiting import patience

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamo") is None, reason="NVIDIA Dynamo is not installed"
)

size = 16
prompt = list(range(1, 65))
#: The sequence hashes of Dynamo's own selection for this prompt.
hashes = [
    value % 2**64
    for value in (-1583300653928780152, -5980354406663771828, 960926348267535642, 4923844688253642376)
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"discovery": "file", "path": str(tmp_path_factory.mktemp("discovery"))}


@pytest.fixture
def publisher(cluster: dict[str, Any]) -> Iterator[KvPublisher]:
    with KvPublisher(endpoint="backend.generate", kv_block_size=size, cluster=cluster) as publisher:
        yield publisher


def test_info(publisher: KvPublisher) -> None:
    info = publisher.info
    assert info.pop("worker_id") > 0
    assert info == {
        "state": "publishing",
        "problem": None,
        "endpoint": "dynamo.backend.generate",
        "kv_block_size": size,
        "data_parallel_rank": 0,
        "relays": False,
    }


def test_publishers_of_a_process_are_one_worker(publisher: KvPublisher, cluster: dict[str, Any]) -> None:
    with KvPublisher(
        endpoint="backend.generate", kv_block_size=size, cluster=cluster, data_parallel_rank=1
    ) as other:
        assert other.info["worker_id"] == publisher.info["worker_id"]
    with KvPublisher(
        endpoint="backend.generate", kv_block_size=size, cluster=cluster, worker_id=2**64 - 1
    ) as other:
        assert other.info["worker_id"] == 2**64 - 1


def test_hashes_are_dynamos(publisher: KvPublisher) -> None:
    assert publisher.hashes(prompt) == hashes
    assert publisher.hashes(prompt[:40]) == hashes[:2]  # complete blocks only
    assert publisher.hashes(prompt[:3]) == []
    assert publisher.hashes(prompt[size:]) != hashes[1:]  # a hash of the prefix, not of the block alone
    others = [publisher.hashes(prompt, lora_name="a"), publisher.hashes(prompt, cache_salt="a")]
    assert len({tuple(one) for one in [hashes, *others]}) == 3


def test_events_are_counted(publisher: KvPublisher) -> None:
    assert publisher.stored(prompt, hashes)
    assert publisher.flush(60)
    assert publisher.statistics()["stored_blocks"] == 4
    assert publisher.removed(hashes[3:])
    assert publisher.removed([5])  # unknown to the publisher
    assert publisher.flush()
    assert publisher.statistics()["stored_blocks"] == 3
    assert publisher.publish_many(
        [
            KvCleared(),
            KvStored(prompt[:size], hashes[:1]),
            KvRemoved([]),
            KvStored(prompt[size:], hashes[1:], hashes[0]),
        ]
    )
    assert publisher.publish_many([])
    assert publisher.flush(60)
    now = publisher.statistics()
    assert (now["published_events"], now["stored_blocks"]) == (7, 4)
    assert (now["queued_events"], now["queued_blocks"], now["failed_events"]) == (0, 0, 0)
    assert publisher.cleared()
    assert publisher.flush(60)
    assert publisher.statistics()["stored_blocks"] == 0


@contextmanager
def busy_loop() -> Iterator[None]:
    """Blocks the library's event loop, so that no event is sent."""
    from dynamo_llm.runtime import host

    is_over, has_begun = threading.Event(), threading.Event()

    def block() -> None:
        has_begun.set()
        is_over.wait(60)

    assert host._host is not None
    host._host.loop.call_soon_threadsafe(block)
    assert has_begun.wait(60)
    try:
        yield
    finally:
        is_over.set()


def test_a_full_queue_rejects_events_and_loses_none(cluster: dict[str, Any]) -> None:
    with KvPublisher(
        endpoint="backend.generate", kv_block_size=size, cluster=cluster, queue_blocks=6
    ) as publisher:
        with busy_loop():
            assert publisher.stored(prompt, hashes)  # from any thread, without waiting
            assert publisher.removed(hashes[:2])
            assert not publisher.removed(hashes[:1])
            assert not publisher.publish_many([KvCleared(), KvStored(prompt, hashes)])
            assert not publisher.cleared()
            assert not publisher.flush(0)
            now = publisher.statistics()
            assert (now["queued_events"], now["queued_blocks"], now["published_events"]) == (2, 6, 0)
        assert publisher.flush(60)
        assert publisher.statistics()["stored_blocks"] == 2
        # Events larger than the queue are accepted when it is empty.
        many = [KvStored(prompt, hashes), KvCleared(), KvStored(prompt, hashes)]
        assert publisher.publish_many(many)
        assert publisher.flush(60)
        assert publisher.statistics()["stored_blocks"] == 4


def test_wrong_events_are_named(publisher: KvPublisher) -> None:
    with pytest.raises(InvalidArgumentError, match="must be 4 blocks of 16 tokens, not 63"):
        publisher.stored(prompt[:63], hashes)
    with pytest.raises(InvalidArgumentError, match="stored->block_count is 0"):
        publisher.stored([], [])
    with pytest.raises(InvalidArgumentError, match=r"events\[1\]: stored->token_count must be 1 blocks"):
        publisher.publish_many([KvCleared(), KvStored(prompt, hashes[:1])])
    with pytest.raises(
        InvalidArgumentError, match="block hashes must be integers from 0 to 18446744073709551615"
    ):
        publisher.removed([-1])
    with pytest.raises(InvalidArgumentError, match="block hashes must be integers"):
        publisher.stored(prompt, hashes, parent_hash=2**64)
    with pytest.raises(InvalidArgumentError, match="token ids must be integers"):
        publisher.stored([2**32], [1])
    with pytest.raises(InvalidArgumentError, match="timeout must be None or a number of seconds, 0 or more"):
        publisher.flush(-1)
    assert publisher.flush(60)
    assert publisher.statistics()["published_events"] == 0


def test_a_relay_takes_no_events(cluster: dict[str, Any]) -> None:
    with KvPublisher(
        endpoint="backend.generate",
        kv_block_size=size,
        cluster=cluster,
        data_parallel_rank=3,
        zmq_endpoint="tcp://127.0.0.1:9",
    ) as relay:
        assert relay.info["relays"] is True
        with pytest.raises(InvalidStateError, match='passes on the events of its "zmq_endpoint"'):
            relay.cleared()
        assert relay.flush(60)


def test_use_after_close(cluster: dict[str, Any], tmp_path: Path) -> None:
    publisher = KvPublisher(endpoint="backend.generate", kv_block_size=size, cluster=cluster)
    assert publisher.stored(prompt, hashes)
    publisher.close()
    publisher.close()
    for call in (publisher.cleared, publisher.flush, publisher.statistics, lambda: publisher.info):
        with pytest.raises(InvalidHandleError):
            call()


def test_a_receiver_of_logs_may_ask_the_publisher(tmp_path: Path) -> None:
    """Failures are logged without a lock held."""
    result = run_python(f"""
import ctypes
from dynamo_llm import DynamoError, KvPublisher, paths
from dynamo_llm.runtime.cluster.worker.kv_publisher import KvPublisherEngine

async def fail(self, events):
    raise OSError("no way")
    yield

KvPublisherEngine._publish = fail
seen = []

@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p)
def log(user, level, logger, message):
    seen.append((logger, publisher.statistics()["failed_events"]))

library = ctypes.CDLL(str(paths.lib_dir() / "libdynamo_llm_capi.so.1"))
library.dynamo_log_set_callback(3, log, None, None)
cluster = {{"discovery": "file", "path": {str(tmp_path)!r}}}
publisher = KvPublisher(endpoint="backend.generate", kv_block_size=16, cluster=cluster)
publisher.removed([1])
try:
    publisher.flush()
except DynamoError as error:
    print(error)
publisher.close()
library.dynamo_log_set_callback(4, None, None, None)
print([(logger, failed) for logger, failed in seen if logger == b"dynamo_llm.kv_publisher"])
""")
    assert result.returncode == 0, result.stderr
    assert "no way" in result.stdout and result.stdout.endswith("[(b'dynamo_llm.kv_publisher', 1)]\n")


def test_events_without_blocks_fill_the_queue(
    cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count toward the capacity, too."""
    may_go_on = threading.Event()
    from dynamo_llm.runtime.cluster.worker.kv_publisher import KvPublisherEngine

    publish = KvPublisherEngine._publish

    async def publish_late(self: KvPublisherEngine, events: Any) -> Any:
        await asyncio.to_thread(may_go_on.wait, patience)
        async for answer in publish(self, events):
            yield answer

    monkeypatch.setattr(KvPublisherEngine, "_publish", publish_late)
    with KvPublisher(
        endpoint="backend.generate", kv_block_size=size, cluster=cluster, queue_blocks=2
    ) as publisher:
        assert [publisher.removed([]) for _ in range(3)] == [True, True, False]
        may_go_on.set()
        assert publisher.flush(patience) and publisher.removed([])


class Lost:
    """A connection that is lost and restored; the second Dynamo publisher on it fails to start."""

    def __init__(self) -> None:
        self.core = self.runtime = self
        self.ids = iter([1, 2, 3])
        self.made: list[int] = []
        self.published: list[Any] = []
        self.tell: Any = None

    def endpoint(self, path: str) -> "Lost":
        return self

    def connection_id(self) -> int:
        return next(self.ids)

    def KvEventPublisher(self, endpoint: "Lost", *, worker_id: int, **_: Any) -> "Lost":
        self.made.append(worker_id)
        if worker_id == 2:
            raise RuntimeError("not yet")
        return self

    def publish_batch(self, events: list[Any]) -> None:
        self.published += events

    def shutdown(self) -> None:
        self.published = []

    def subscribe(self, listener: Any) -> Any:
        self.tell = listener
        return lambda: None

    async def release(self) -> None:
        pass


def test_reopening_is_retried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Meanwhile events are accepted; afterwards all stored blocks are published."""
    from dynamo_llm.runtime.cluster import connection
    from dynamo_llm.runtime.cluster.worker.kv_publisher import KvPublisherEngine
    from dynamo_llm.runtime.engine import DataRequest, EngineConfig

    joined = Lost()

    async def acquire(_: Any) -> Lost:
        return joined

    monkeypatch.setattr(connection, "acquire", acquire)

    def stored(at: int) -> dict[str, Any]:
        return {"stored": {"token_ids": prompt[:size], "block_hashes": [at]}}

    async def play() -> None:
        options = {"endpoint": "backend.generate", "kv_block_size": size}
        engine = KvPublisherEngine(EngineConfig(engine="kv", model=None, options=options))

        async def publish(event: dict[str, Any]) -> None:
            async for _ in engine.generate(DataRequest(id="1", data={"publish": [event]})):  # type: ignore[union-attr]
                pass

        await engine.start()
        await publish(stored(1))
        joined.tell("lost")
        lost = engine.describe()
        assert (lost["state"], lost["worker_id"]) == ("lost", 1)
        assert "is lost" in lost["problem"]
        await publish(stored(2))
        joined.tell("restored")
        for _ in range(1000):
            if engine.describe()["state"] == "publishing":
                break
            await asyncio.sleep(0.01)
        assert engine.describe() == {**lost, "state": "publishing", "worker_id": 3, "problem": None}
        assert joined.made == [1, 2, 3]
        assert [event["block_hashes"] for event in joined.published] == [[1], [2]]
        await engine.stop()

    asyncio.run(play())
    assert "KV events cannot be published again: not yet" in caplog.text
