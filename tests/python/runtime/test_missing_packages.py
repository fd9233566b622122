# SPDX-License-Identifier: Apache-2.0
"""A program runs a Python that lacks packages that are installed with the library."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from reliability import reliability

# A host whose Python has nothing but the standard library, and which opens the C library.
_host = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.dynamo_runtime_create.restype = ctypes.c_void_p
library.dynamo_last_error.restype = ctypes.c_char_p
runtime = library.dynamo_runtime_create(sys.argv[2].encode())
print(library.dynamo_last_error().decode() if runtime is None else "runs")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed with another one beside it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(dynamo_llm.__file__).parent, site / "dynamo_llm")
    (site / "beside").mkdir()
    (site / "beside" / "__init__.py").write_text("")
    (site / "beside" / "engine.py").write_text(
        "class Engine:\n"
        "    def __init__(self, config): pass\n"
        "    async def start(self): pass\n"
        "    async def generate(self, request): yield {'text': 'a'}\n"
        "    async def stop(self): pass\n"
    )
    return site


def start(site: Path, config: dict[str, Any]) -> str:
    """Returns the output of the host."""
    library = next((site / "dynamo_llm" / "lib").glob("libdynamo_llm_capi.so*"))
    command = [sys.executable, "-I", "-S", "-c", _host, str(library), json.dumps(config)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_advice(site: Path, tmp_path: Path) -> None:
    """The error names the configuration key that helps, and it does."""
    (tmp_path / "needing.py").write_text("from beside.engine import Engine\n")
    (tmp_path / "late.py").write_text(
        "class Engine:\n"
        "    def __init__(self, config): pass\n"
        "    async def start(self):\n"
        "        try:\n"
        "            import beside.engine\n"
        "        except ImportError as error:\n"
        "            raise RuntimeError('install beside') from error\n"
        "    async def generate(self, request): yield {'text': 'a'}\n"
        "    async def stop(self): pass\n"
    )
    advice = f'"python": {{"path": ["{site}"]}}'
    configs = [
        ({"engine": "beside.engine:Engine"}, []),
        ({"engine": "needing:Engine"}, [str(tmp_path)]),
        ({"engine": "late:Engine"}, [str(tmp_path)]),
    ]
    for config, path in configs:
        problem = start(site, {**config, "python": {"path": path}})
        assert advice in problem and "The package beside is installed in" in problem
        assert start(site, {**config, "python": {"path": [*path, str(site)]}}) == "runs"
    reliability(
        "a host's Python lacks a package that is installed with the library", 3, "the error says where"
    )


def test_no_advice(site: Path, tmp_path: Path) -> None:
    """A package that is not installed with the library is not searched for there."""
    (tmp_path / "broken.py").write_text("import no_such_package_anywhere\n")
    for engine in ("broken:Engine", "no_such_module:Engine"):
        problem = start(site, {"engine": engine, "python": {"path": [str(tmp_path)]}})
        assert "no_such" in problem and '"path"' not in problem
