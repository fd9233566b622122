# SPDX-License-Identifier: Apache-2.0
"""The file that keeps what was typed: bounded, private, and robust."""

import json
import os
from pathlib import Path

import pytest
from dynamo_llm.cli import history_file
from dynamo_llm.cli.history_file import HistoryFile, default_path


def stored(path: Path) -> list[str]:
    """Returns the entries as a new run reads them, the oldest first."""
    return list(HistoryFile(path).load_history_strings())[::-1]


def test_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the XDG base directory specification; a relative path is not valid there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "dynamo-llm" / "chat_history"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("relative", ""):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert default_path() == tmp_path / ".local" / "state" / "dynamo-llm" / "chat_history"


def test_private(tmp_path: Path) -> None:
    """Folder and file are the user's, also if the file was readable by others."""
    path = tmp_path / "new" / "history"
    HistoryFile(path).store_string("a")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    assert stored(path) == ["a"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_other_file(tmp_path: Path) -> None:
    """A link, a pipe, or a folder in its place is refused."""
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ""):
        with pytest.raises(OSError):
            HistoryFile(tmp_path / name)
    assert target.read_text() == "untouched"


def test_damaged(tmp_path: Path) -> None:
    """Lines that are cut off, not JSON, or not strings are left out."""
    path = tmp_path / "history"
    path.write_bytes(b'"good"\n\xff\xfe\n{"a": 1}\n"cut o\n"a\\nb"\n')
    assert stored(path) == ["good", "a\nb"]


def test_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In entries, in the size of an entry, and in the size of the file."""
    path = tmp_path / "history"
    history = HistoryFile(path)
    for number in range(1100):
        history.store_string(str(number))
    assert stored(path) == [str(number) for number in range(100, 1100)]
    history.store_string("x" * 100_000)
    assert stored(path)[-1] == "1099"
    monkeypatch.setattr(history_file, "_most_bytes", 1000)
    for number in range(1000):
        history.store_string(f"entry {number}")
        assert path.stat().st_size <= 2100
    assert stored(path)[-1] == "entry 999"
    assert len(stored(path)) > 20
    assert [one.name for one in tmp_path.iterdir()] == ["history"]


def test_full_disk(tmp_path: Path) -> None:
    """An entry that cannot be stored is reported, and the prompt goes on."""
    path = tmp_path / "history"
    history = HistoryFile(path)
    path.unlink()
    path.mkdir()
    history.store_string("a")
    assert history.problem is not None and "history" in history.problem
    path.rmdir()
    history.store_string("b")
    assert history.problem is None
    assert [json.loads(line) for line in path.read_text().splitlines()] == ["b"]
