# SPDX-License-Identifier: Apache-2.0
"""A third-party package: its engines can be used by name if it is installed beside this one."""

import sys
from pathlib import Path

import pytest
from conftest import Ask, run, run_python, tests_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/packages/thirdparty-engine, installed into a separate folder."""
    folder = tmp_path_factory.mktemp("thirdparty")
    source = tests_dir / "packages" / "thirdparty-engine"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", folder]
    result = run([*pip, *options, source], {"HOME": str(folder)})
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_from_c(ask: Ask, folder: Path) -> None:
    """With the folder in the configuration."""
    python = {"path": [str(folder)]}
    assert ask.text({"engine": "thirdparty-text", "python": python}, "abc de") == "cba ed "
    assert ask.text({"engine": "thirdparty-tokens", "python": python}, " a b c") == " c b a"
    status, message = ask.error({"engine": "thirdparty-txt", "python": python})
    assert status == "DYNAMO_ERROR_ENGINE_NOT_FOUND"
    assert 'did you mean "thirdparty-text"?' in message


def test_from_python(folder: Path) -> None:
    """The same; without the package the name is unknown."""
    code = """
import dynamo_llm
for name in ("thirdparty-text", "thirdparty-tokens"):
    try:
        print(repr(dynamo_llm.Runtime(engine=name).complete(" a b c").result().text))
    except dynamo_llm.EngineNotFoundError:
        print("unknown")
"""
    found = run_python(code, {"PYTHONPATH": str(folder)})
    assert (found.stdout, found.stderr) == ("'a b c '\n' c b a'\n", "")
    assert run_python(code).stdout == "unknown\nunknown\n"


def test_it_needs_nothing_but_the_package(folder: Path) -> None:
    """Its metadata has only the entry points of the group, and this package."""
    (info,) = folder.glob("thirdparty_engine-*.dist-info")
    assert "Requires-Dist: dynamo-llm" in (info / "METADATA").read_text()
    assert "[dynamo_llm.engines]" in (info / "entry_points.txt").read_text()
