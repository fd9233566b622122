# SPDX-License-Identifier: Apache-2.0
"""Child processes that run Python: how they start, what they share with the host, how they end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Ask, compile_c, dynamo_config, engine, run, tests_dir
from dynamo_llm.errors import SystemFailedError
from dynamo_llm.runtime import child as child_module
from dynamo_llm.runtime.child import Child
from reliability import reliability
from waiting import patience, wait_until

#: The module that children of this file run: each line of the channel is a statement or an expression.
module = """
import os, signal, sys, threading, time

def serve(channel, arguments):
    space = {**globals(), "arguments": arguments, "channel": channel}
    for line in channel.makefile():
        if line.startswith("do "):
            exec(line[3:], space)
        else:
            channel.sendall(repr(eval(line, space)).encode() + b"\\n")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path with the module "obedient"."""
    (tmp_path / "obedient.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def child(folder: Path) -> Iterator[Child]:
    """A child that has started."""
    child = Child("obedient", name="test", arguments={"a": [1, None, "ä"]})
    child.start()
    yield child
    child.stop(ask=0, terminate=0)


def ask(child: Child, expression: str) -> Any:
    """Evaluates an expression in a child."""
    child_module.send(child.channel, expression.encode() + b"\n")
    with child.channel.makefile() as lines:
        return eval(lines.readline())


def tell(child: Child, statement: str) -> None:
    """Executes a statement in a child."""
    child_module.send(child.channel, f"do {statement}\n".encode())


def beginning(folder: Path) -> str:
    """Returns the first lines of a program that uses this file."""
    return f"""
import sys
sys.path[:0] = [{str(folder)!r}, {str(Path(__file__).parent)!r}, {str(tests_dir / "python")!r}]
from dynamo_llm.runtime.child import Child
from test_child_process import ask, tell
"""


def host(code: str, folder: Path) -> str:
    """Runs a program with a child. Returns its output."""
    result = run([sys.executable, "-c", beginning(folder) + code])
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie, which a container's init may not reap, has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_serves(child: Child) -> None:
    """It gets its arguments, answers, and ends on request."""
    assert ask(child, "arguments") == {"a": [1, None, "ä"]}
    assert ask(child, "os.getppid()") == os.getpid() and ask(child, "os.getpid()") == child.pid
    assert ask(child, "sys.path") == sys.path
    pid = child.pid
    child.stop(ask=patience)
    assert child.ending == "exited with status 0"
    assert not psutil.pid_exists(pid)
    child.stop()


@pytest.mark.parametrize("is_bare", [True, False])
def test_package(folder: Path, is_bare: bool) -> None:
    """The package is imported only if the child is not bare; its modules can be imported in both cases."""
    child = Child("obedient", name="test", is_bare=is_bare)
    child.start()
    assert ask(child, "'dynamo_llm._core' in sys.modules") is not is_bare
    place = ask(child, "__import__('dynamo_llm.runtime.threads').runtime.threads.__file__")
    assert Path(place).parent == Path(child_module.__file__).parent
    child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_descriptors(folder: Path) -> None:
    """A child gets none of the host's descriptors, inheritable or not; its signals are reset."""
    out = host(
        """
import os, signal, socket
kept = [os.open("/dev/null", os.O_RDONLY), *os.pipe(), socket.socket().detach()]
for number in kept:
    os.set_inheritable(number, True)
for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGIO, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
before = [signal.getsignal(number) for number in range(1, 65) if number not in (32, 33)]
child = Child("obedient", name="test")
child.start()
numbers = ask(child, "[os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2 "
    "and os.path.exists(f'/proc/self/fd/{n}')]")
status = dict(line.split(":", 1) for line in ask(child, "open('/proc/self/status').read()").splitlines())
print([one for one in numbers if "pipe" in one or "null" in one])
print(len([one for one in numbers if "socket" in one]))
print(int(status["SigBlk"], 16), int(status["SigIgn"], 16) & ~(1 << 12 | 1 << 24))  # SIGPIPE, SIGXFSZ
print(ask(child, "os.getsid(0) == os.getpid()"))
child.stop(ask=0)
print(before == [signal.getsignal(number) for number in range(1, 65) if number not in (32, 33)])
""",
        folder,
    )
    assert out.splitlines() == ["[]", "1", f"0 {1 << signal.SIGINT - 1}", "True", "True"]


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
def test_host_without_stdin(folder: Path, closed: tuple[int, ...]) -> None:
    """A host may have closed its stdin, stdout, and stderr."""
    out = folder / "out"
    host(
        f"""
import os
for number in {closed}:
    os.close(number)
child = Child("obedient", name="test")
child.start()
with open({str(out)!r}, "w") as file:
    print(ask(child, "1 + 1"), file=file)
child.stop()
os._exit(0)
""",
        folder,
    )
    assert out.read_text() == "2\n"


ignoring = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
taking = """
def take():
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.001)
threading.Thread(target=take, daemon=True).start()
"""


@pytest.mark.parametrize("habit", [ignoring, taking], ids=["ignores SIGCHLD", "waits for every child"])
def test_status_is_stolen(folder: Path, habit: str) -> None:
    """A host may reap every child, or let the kernel do it."""
    out = host(
        f"""
import os, signal, threading, time
{habit}
for deed in ("os._exit(3)", "os.kill(os.getpid(), 9)", "time.sleep(1000)"):
    child = Child("obedient", name="test")
    child.start()
    tell(child, deed)
    if "sleep" not in deed:
        assert child.wait(100) and child.channel.recv(1) == b""
    child.stop(ask=0)
    assert not child.is_running and child.ending.startswith(("ended", "exited", "was killed")), child.ending
print("fine")
""",
        folder,
    )
    assert out == "fine"


def test_interrupt(folder: Path) -> None:
    """Ctrl-C reaches the host's process group, but not the child, which ignores SIGINT."""
    program = f"""{beginning(folder)}
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
child = Child("obedient", name="test")
child.start()
try:
    os.killpg(0, signal.SIGINT)
    time.sleep(100)
except KeyboardInterrupt:
    os.kill(child.pid, signal.SIGINT)
    print(ask(child, "'alive'"))
"""
    result = run([sys.executable, "-c", program], start_new_session=True)
    assert (result.stdout, result.returncode) == ("alive\n", 0), result.stderr


def test_log(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    """Each line that it prints is a log record; records of its logging keep their level."""
    caplog.set_level("DEBUG", logger="dynamo_llm")
    caplog.handler.setLevel("DEBUG")
    import logging

    logging.getLogger("dynamo_llm").addHandler(caplog.handler)
    try:
        tell(child, "print('out ä'); print('one\\ntwo', file=sys.stderr, flush=True)")
        tell(child, "import logging; logging.getLogger('its.own').error('bad\\nworse')")
        tell(child, "sys.stdout.write('no end')")
        child.stop(ask=patience)
    finally:
        logging.getLogger("dynamo_llm").removeHandler(caplog.handler)
    records = {
        (one.levelname, one.getMessage()) for one in caplog.records if one.name == "dynamo_llm.child.test"
    }
    assert records == {
        ("INFO", "out ä"),
        ("INFO", "no end"),
        ("WARNING", "one"),
        ("WARNING", "two"),
        ("ERROR", "its.own: bad"),
        ("ERROR", "its.own: worse"),
    }
    assert {"one", "two"} <= set(child.last_lines)


def test_writes_much(child: Child) -> None:
    """A child whose output is not read is not blocked, and the host does not grow."""
    tell(child, "sys.stdout.write('x' * 30_000_000); sys.stdout.flush()")
    assert ask(child, "1") == 1


deaths = {"an idle child": "", "a child inside C code": "tell(child, '9 ** 9 ** 9')", "a child's child": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills the child")
@pytest.mark.parametrize("forks", [False, True])
@pytest.mark.parametrize("what", deaths)
def test_parent_is_killed(folder: Path, what: str, forks: bool) -> None:
    """The child and its own processes end with the host, whatever the child does."""
    if forks and what == "a child inside C code":
        pytest.skip("a fork keeps the pipe open, and the watching thread waits for the GIL")
    program = f"""{beginning(folder)}
import os, time
child = Child("obedient", name="test")
child.start()
grandchild = ask(child, "__import__('subprocess').Popen(['sleep', '1000']).pid")
{deaths[what]}
other = 0
if {forks}:  # it has all of the host's descriptors
    other = os.fork()
    if other == 0:
        time.sleep(1000)
print(child.pid, grandchild, other, flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, grandchild, other = map(int, process.stdout.readline().split())
    try:
        process.kill()
        process.wait(patience)
        wait_until(lambda: is_gone(pid) and is_gone(grandchild))
    finally:
        process.stdout.close()
        for one in (pid, grandchild, other):
            if one and not is_gone(one):
                os.kill(one, signal.SIGKILL)
    reliability("the host is killed by SIGKILL while a child process runs", 1, "the child ends, too")


def test_exit_without_stop(folder: Path) -> None:
    """A host that does not stop a child exits at once, and the child with it."""
    out = host('child = Child("obedient", name="test")\nchild.start()\nprint(child.pid)', folder)
    wait_until(lambda: is_gone(int(out)))


stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"


@pytest.mark.parametrize(
    "deed", ["time.sleep(1000)", stubborn, "9 ** 9 ** 9", "os.kill(os.getpid(), signal.SIGSTOP)"]
)
def test_stop_is_bounded(child: Child, deed: str) -> None:
    """A child that does not respond is terminated, then killed, together with its own children."""
    grandchild = ask(child, "__import__('subprocess').Popen(['sleep', '1000']).pid")
    tell(child, deed)
    pid, start = child.pid, time.monotonic()
    child.stop(ask=0.2, terminate=0.2)
    assert time.monotonic() - start < patience
    assert not child.is_running and child.ending in ("was killed by SIGTERM", "was killed by SIGKILL")
    wait_until(lambda: is_gone(grandchild))
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("deed", "ending"),
    [
        ("os._exit(7)", "exited with status 7"),
        ("os.abort()", "was killed by SIGABRT"),
        ("signal.raise_signal(signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", "was killed by signal"),
        ("raise ValueError('oh')", "exited with status 1"),
    ],
)
def test_ends_by_itself(folder: Path, deed: str, ending: str) -> None:
    """The host learns how the child ended; writing to it raises no signal, and no zombie stays."""
    ended = threading.Event()
    child = Child("obedient", name="test", on_end=ended.set)
    child.start()
    pid = child.pid
    tell(child, deed)
    assert ended.wait(patience)
    assert child.ending.startswith(ending) and not child.is_running
    assert not psutil.pid_exists(pid)
    previous = signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a host may have this
    try:
        with pytest.raises(ConnectionError):
            tell(child, "pass")
    finally:
        signal.signal(signal.SIGPIPE, previous)
    child.kill()
    child.stop()


def test_cannot_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error contains the output of each interpreter; no process and no descriptor stays."""
    children = set(psutil.Process().children())
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    (folder / "broken.py").write_text("import no_such_module")
    with pytest.raises(SystemFailedError, match="No module named 'no_such_module'") as raised:
        Child("broken", name="test").start()
    assert str(raised.value).count("Traceback") == 1  # another interpreter would not help
    (folder / "late.py").write_text("import time\ntime.sleep(1000)")
    with pytest.raises(SystemFailedError, match=r"(?s)the child process test.*not ready after 0.5 seconds"):
        Child("late", name="test").start(0.5)
    monkeypatch.setattr(child_module, "executables", lambda: ["/no/such/python", "/bin/false"])
    with pytest.raises(
        SystemFailedError, match=r"(?s)/no/such/python: .*No such file.*/bin/false: it exited"
    ):
        Child("obedient", name="test").start()
    assert set(psutil.Process().children()) <= children
    if before:
        assert set(os.listdir("/proc/self/fd")) <= before


def test_other_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter of another version is not used."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    with pytest.raises(SystemFailedError, match=r"but the parent process runs cpython 3\.9"):
        Child("obedient", name="test").start()


def test_executables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that embeds Python is never started; the interpreter that it names is."""
    monkeypatch.setattr(child_module, "_proven", [])
    program, named = tmp_path / "program", tmp_path / "named"
    for file in (program, named):
        file.write_text("#!/bin/false")
        file.chmod(0o755)
    assert child_module.executables()[0] == sys.executable
    monkeypatch.setattr(sys, "orig_argv", [])
    monkeypatch.setattr(child_module.runtime, "owns_python", False)
    monkeypatch.delenv("DYNAMO_LLM_PYTHON", raising=False)
    for executable in ("", str(program), None):
        monkeypatch.setattr(sys, "executable", executable)
        monkeypatch.setattr(sys, "_base_executable", executable)
        found = child_module.executables()
        assert str(program) not in found
        assert any(Path(one).name.startswith("python") for one in found)
    monkeypatch.setenv("DYNAMO_LLM_PYTHON", str(named))
    assert child_module.executables()[0] == str(named)


def check_parenting(said: dict[str, Any]) -> None:
    """Checks the answer of the engine in tests/engines/parenting.py."""
    assert said["arguments"] == ["a", {"b": 1}]
    assert Path(said["module"]) == tests_dir / "engines" / "echoes.py"


def test_c_program(ask: Ask) -> None:
    """In a program that does not run Python, children use the interpreter that the library has selected."""
    said = json.loads(ask.text(engine("parenting:Parent"), "echoes"))
    check_parenting(said)
    assert said["prefix"] == sys.prefix


def test_static_library(tmp_path: Path) -> None:
    """In a program that links the static library."""
    flags = dynamo_config("--cflags", "--libs", "--static").split()
    program = Ask(compile_c(tests_dir / "python" / "ask.c", tmp_path / "static", *flags))
    said = json.loads(
        program.text(engine("parenting:Parent"), "echoes", {"DYNAMO_LLM_PYTHON": sys.executable})
    )
    check_parenting(said)
    assert said["prefix"] == sys.prefix
