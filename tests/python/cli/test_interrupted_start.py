# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while the command starts: it ends quietly with the code 130."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import patience, run

#: Interrupts the import of one module, as Ctrl-C does.
_interrupting = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""

slow = '{"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}}'

script = Path(sys.executable).parent / "dynamo-llm"


@pytest.mark.parametrize(
    "module", ["dynamo_llm._core", "dynamo_llm.api.runtime", "click", "dynamo_llm.cli.serve"]
)
@pytest.mark.parametrize("command", [["-m", "dynamo_llm"], [str(script)]])
def test_during_an_import(module: str, command: list[str], tmp_path: Path) -> None:
    """The import may be that of the library or of the command."""
    (tmp_path / "sitecustomize.py").write_text(_interrupting.format(module=module))
    result = run([sys.executable, *command, "chat", "hi"], {"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_programs_get_the_exception(tmp_path: Path) -> None:
    """A program that imports the library is not ended."""
    (tmp_path / "sitecustomize.py").write_text(_interrupting.format(module="dynamo_llm.errors"))
    code = "try:\n    import dynamo_llm\nexcept KeyboardInterrupt:\n    print('interrupted')"
    result = run([sys.executable, "-c", code], {"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stdout) == (0, "interrupted\n")


#: Reports that the command has begun to import the library.
_reporting = """
import os, sys
class Report:
    def find_spec(self, name, path=None, target=None):
        if name == "dynamo_llm._core":
            os.write({fd}, b"x")
sys.meta_path.insert(0, Report())
"""


@pytest.mark.parametrize("milliseconds", [0, 10, 30, 60, 100, 200, 400, 800, 1600])
def test_at_any_time(milliseconds: int, tmp_path: Path) -> None:
    """Wherever the signal arrives once the command has begun to start."""
    started, fd = os.pipe()
    (tmp_path / "sitecustomize.py").write_text(_reporting.format(fd=fd))
    with subprocess.Popen(
        [sys.executable, "-m", "dynamo_llm", "chat", "--config", slow, "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[fd],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as process:
        os.close(fd)
        try:
            assert os.read(started, 1) == b"x"
            os.close(started)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(milliseconds / 1000)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=patience)
            assert (process.returncode, errors) == (130, b""), output
        finally:
            process.kill()
