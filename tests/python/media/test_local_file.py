# SPDX-License-Identifier: Apache-2.0
"""File URLs: only regular files below the allowed folders."""

import logging
import os
from pathlib import Path

import pytest
from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.media import local_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, and one beside it that is not allowed."""
    allowed, secret = tmp_path / "allowed", tmp_path / "allowed-not"
    (allowed / "below").mkdir(parents=True)
    secret.mkdir()
    (allowed / "below" / "ä b%.png").write_bytes(b"data")
    (secret / "key").write_bytes(b"secret")
    (allowed / "link").symlink_to(secret / "key")
    (allowed / "folder").symlink_to(secret)
    (allowed / "inside").symlink_to(allowed / "below" / "ä b%.png")
    os.mkfifo(allowed / "fifo")
    return allowed


def refused(url: str, *folders: Path, most: int = 100) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        local_file.read(url, [str(one) for one in folders], most)
    return caught.value.message


def test_files_below_a_folder(folder: Path) -> None:
    """A URL is decoded, with and without a host."""
    url = (folder / "below" / "ä b%.png").as_uri()
    for form in (url, url.replace("file://", "file:"), url.replace("file://", "file://localhost")):
        assert local_file.read(form, ["/nowhere", str(folder)], 4) == b"data"
    assert "more than 3" in refused(url, folder, most=3)
    assert "media.max_bytes" in refused(url, folder, most=3)


def test_other_folders(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder with a similar name is not allowed, nor a way up, however it is written."""
    secret = f"file://{folder}-not/key"
    with caplog.at_level(logging.INFO, "dynamo_llm.media"):
        assert refused(secret, folder) == (
            "is a file URL of a folder that is not allowed; allowed are only those that the configuration "
            'names ("media.allow_files" of the configuration)'
        )
    assert f"the allowed folders, which are {folder}" in caplog.text
    assert "allowed are none" in refused(secret)
    for up in ("..", "%2e%2e", ".%2E", "below/../.."):
        assert 'without ".."' in refused(f"file://{folder}/{up}/allowed-not/key", folder)
    for wrong in ("file:x.png", "file://host/x.png", "file:", f"file://{folder}/x?y", "file://[/x"):
        assert "must name a file as" in refused(wrong, folder)
    assert "NUL" in refused(f"file://{folder}/a%00b", folder)


def test_links(folder: Path) -> None:
    """Links below the folder are not followed, even to files inside; the folder itself may be one."""
    for name in ("link", "folder/key", "inside"):
        assert "symbolic links are not followed" in refused(f"file://{folder}/{name}", folder)
    other = folder.parent / "other"
    other.symlink_to(folder)
    assert local_file.read(f"file://{other}/below/%C3%A4%20b%25.png", [str(other)], 9) == b"data"


def test_what_is_not_a_file(folder: Path) -> None:
    """A FIFO does not block, and nothing that is missing is created."""
    assert "regular file" in refused(f"file://{folder}/fifo", folder)
    assert "regular file" in refused(f"file://{folder}/below", folder)
    assert "regular file" in refused(f"file://{folder}", folder)
    assert "No such file" in refused(f"file://{folder}/missing.png", folder)
    assert "No such file" in refused(f"file://{folder}/missing/x.png", folder)
    assert "cannot be read" in refused(f"file://{folder}/{'x' * 300}", folder)


def test_device() -> None:
    """A device is not read."""
    assert "regular file" in refused("file:///dev/zero", Path("/dev"))
