# SPDX-License-Identifier: Apache-2.0
"""Bytes of a download are counted, also as the Xet storage reports them, which the tests' server lacks."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dynamo_llm.runtime.hub.refusal import AnswerError
from dynamo_llm.runtime.hub.repository import _Bar, _Counter
from dynamo_llm.runtime.hub.watchdog import Watchdog
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter


def test_xet(tmp_path: Path) -> None:
    """A file's bytes count once, although two kinds of progress are reported."""
    calls: list[tuple[str, int, int]] = []
    watchdog = Watchdog(lambda *call: calls.append(call), lambda reason: None, 10)
    watchdog.download(100, 0, tmp_path)
    counter = _Counter(watchdog)
    bar = type("Bar", (_Bar,), {"counter": counter})
    with XetDownloadProgressReporter(
        reconstruction_desc="a file", log_level=20, total=100, tqdm_class=bar
    ) as progress:
        for received, written in ((40, 0), (70, 30), (90, 100)):
            progress.update_progress(
                SimpleNamespace(
                    total_bytes_completed=written,
                    total_bytes_completion_rate=1.0,
                    total_transfer_bytes_completed=received,
                    total_transfer_bytes_completion_rate=1.0,
                    total_bytes=100,
                ),
                {},
            )
    counter.set(100)
    watchdog.add(0)
    watchdog.finish()
    assert watchdog._bytes == 100
    assert calls[1] == ("download", 0, 100) and calls[-1] == ("download", 100, 100)


def test_too_many_bytes(tmp_path: Path) -> None:
    watchdog = Watchdog(lambda *call: None, lambda reason: None, 10)
    watchdog.download(100, 0, tmp_path)
    with pytest.raises(AnswerError, match="more than the 100 bytes"):
        for _ in range(100):
            watchdog.add(1 << 20)


def test_order(tmp_path: Path) -> None:
    """The first report is that of the search, and none of it comes after the download began."""
    phases: list[str] = []
    is_reporting = threading.Event()

    def report(phase: str, done: int, total: int) -> None:
        if threading.current_thread().name == "watchdog" and not is_reporting.is_set():
            is_reporting.set()
            time.sleep(0.1)  # the main thread begins the download now
        phases.append(phase)

    watchdog = Watchdog(report, lambda reason: None, 10)
    assert phases == ["resolve"]
    assert is_reporting.wait(10)
    watchdog.download(100, 0, tmp_path)
    watchdog.finish()
    assert phases[:3] == ["resolve", "resolve", "download"] and phases[-1] == "download"
