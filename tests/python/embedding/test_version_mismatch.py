# SPDX-License-Identifier: Apache-2.0
"""A library and a package of different releases: the error contains both versions."""

import json
import shutil
import sys
from pathlib import Path

import dynamo_llm
import pytest
from conftest import Ask, run

other = "1.9.9"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with this package, whose library reports another release."""
    package = tmp_path / "dynamo_llm"
    shutil.copytree(Path(dynamo_llm.__file__).parent, package)
    library = package / "lib" / "libdynamo_llm_capi.so.1"
    ours = f"{dynamo_llm.__version__}\0".encode()
    content = library.read_bytes()
    assert content.count(ours) >= 1
    library.write_bytes(content.replace(ours, f"{other}\0".encode()))
    return tmp_path


def test_in_python(mixed: Path) -> None:
    """Importing the package fails."""
    result = run([sys.executable, "-c", "import dynamo_llm"], {"PYTHONPATH": str(mixed)})
    assert result.returncode == 1
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith("ImportError") and other in last and dynamo_llm.__version__ in last


def test_in_c(mixed: Path, bare_ask: Ask) -> None:
    """A C program gets a status; engines that do not need Python run."""
    env = {"LD_LIBRARY_PATH": str(mixed / "dynamo_llm" / "lib"), "DYNAMO_LLM_PYTHON": sys.executable}
    assert bare_ask.text({"engine": "echo"}, "a", env) == "a"
    status, message = bare_ask.error({}, env)
    assert status == "DYNAMO_ERROR_VERSION_MISMATCH", json.dumps(message)
    assert other in message and dynamo_llm.__version__ in message
