# SPDX-License-Identifier: Apache-2.0
"""What a process that uses NVIDIA Dynamo as a worker and a client writes to stderr."""

import importlib.util
import sys
from pathlib import Path

import pytest
from conftest import Completed, run, run_python

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

#: Dynamo's warning about the rule that silences it.
banner = "DYNAMIC LOG FILTERS FORCE THE EnvFilter FALLBACK"


def serve(folder: Path, *how: str, **env: str) -> Completed:
    """Runs the program."""
    result = run([sys.executable, Path(__file__).parent / "quiet_worker.py", folder, *how], env)
    assert result.returncode == 0, result.stderr
    return result


def test_silence(tmp_path: Path) -> None:
    """Requests that succeed, are cancelled, or fail write nothing; the host's own output appears."""
    result = serve(tmp_path, "prepared")
    assert result.stderr == "the host's\n"
    lines = result.stdout.splitlines()
    assert lines[0] == "count gives 1 items"
    assert lines[1].startswith("forever gives ")
    kinds = [line.split()[0] for line in lines[2:]]
    assert len(kinds) == 10
    begins = {"InvalidRequest": "InvalidArgument: ", "EngineShutdown": "ValueError: Unavailable: "}
    assert [line.partition(" gives ")[2] for line in lines[2:]] == [
        begins.get(kind, f"ValueError: {kind}: ") + "what happened" for kind in kinds
    ]


def test_without_us(tmp_path: Path) -> None:
    """Without import_core(), even DYN_LOG=off leaves lines for requests, of client and worker."""
    result = serve(tmp_path, "plain", DYN_LOG="off")
    assert "route request completed" in result.stderr and "request cancellation received" in result.stderr


def test_an_exception(tmp_path: Path) -> None:
    """Dynamo prints the traceback of a handler's exception, which failure() avoids."""
    result = serve(tmp_path, "prepared", "raise")
    assert "raise gives ValueError: InvalidRequest: ValueError: an exception" in result.stdout
    assert "Traceback" in result.stderr and result.stderr.endswith("ValueError: an exception\n")


def test_a_system_without_separate_descriptor_tables(tmp_path: Path) -> None:
    """The warning of the import is printed then, but nothing about requests."""
    lines = serve(tmp_path, "refused").stderr.splitlines()
    assert any(banner in line for line in lines)
    assert [line for line in lines if line and not line.startswith("!!!")] == ["the host's"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("DYN_LOG", "off"), ("DYN_LOGGING_CONFIG_PATH", "/nowhere.toml"), ("OTEL_EXPORT_ENABLED", "0")],
)
def test_a_log_that_is_configured(name: str, value: str) -> None:
    """A configured log is left alone."""
    code = (
        "import os\nfrom dynamo_llm.runtime.cluster import dynamo_import\nbefore = dict(os.environ)\n"
        "dynamo_import.import_core()\nassert dict(os.environ) == before"
    )
    result = run_python(code, {name: value})
    assert (result.returncode, result.stderr) == (0, "")


def test_a_missing_package(tmp_path: Path) -> None:
    """The import raises its own error, and the environment is unchanged."""
    (tmp_path / "dynamo.py").write_text("")
    code = (
        "import os\nfrom dynamo_llm.runtime.cluster import dynamo_import\n"
        "try:\n    dynamo_import.import_core()\nexcept ImportError as error:\n    print(error)\n"
        "print('DYN_LOG' in os.environ)"
    )
    result = run([sys.executable, "-c", code], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "No module named 'dynamo._core'; 'dynamo' is not a package\nFalse\n"


def test_an_engine() -> None:
    """An engine that imports Dynamo does so silently."""
    pytest.importorskip(
        "dynamo.common.backend", reason="needs ai-dynamo: pip install --no-deps 'ai-dynamo>=1.6.1,<1.8'"
    )
    code = """
import os
from dynamo_llm import Runtime, paths
model = str(paths.demo_model_dir())
sample = "dynamo.common.backend.sample_engine:SampleLLMEngine"
options = {"class": sample, "args": ["--model-name", "{model}"]}
with Runtime(engine="dynamo-backend", model=model, options=options) as runtime:
    print(runtime.complete("x", max_tokens=2).result().finish_reason, os.environ["DYN_LOG"][:4])
"""
    result = run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "length off,\n", "")
