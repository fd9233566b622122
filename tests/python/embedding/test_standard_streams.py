# SPDX-License-Identifier: Apache-2.0
"""Where Python's stdout and stderr go in a C program, from the first line of a site module on. Apart from
that, Python starts as usual.
"""

import json
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from conftest import Ask, compile_c, dynamo_config, engine, run

here = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="session")
def logged(programs: Path) -> Ask:
    """ask_logged.c, compiled."""
    flags = dynamo_config("--cflags", "--libs").split()
    return Ask(compile_c(Path(__file__).with_name("ask_logged.c"), programs / "ask-logged", *flags))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment."""
    venv.create(tmp_path / "environment", with_pip=False)
    return tmp_path / "environment"


def site_packages(environment: Path) -> Path:
    return environment / "lib" / f"python{here}" / "site-packages"


def customize_site(environment: Path, code: str) -> None:
    """Makes code the sitecustomize of an environment, before one of the system, which Debian's Python has."""
    folder = environment / "customization"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    first = f"import sys; {str(folder)!r} in sys.path or sys.path.insert(0, {str(folder)!r})\n"
    (site_packages(environment) / "first.pth").write_text(first)


def python_of(environment: Path) -> dict[str, str]:
    return {"DYNAMO_LLM_PYTHON": str(environment / "bin" / "python")}


sites: dict[str, tuple[str, list[str]]] = {
    "a line": ("print('welcome')", ["2 python.stdout: welcome"]),
    "a line, flushed": ("print('welcome', flush=True)", ["2 python.stdout: welcome"]),
    "two lines, the second without an end": (
        "print('one\\ntwo', end='')",
        ["2 python.stdout: one", "2 python.stdout: two"],
    ),
    "in parts": ("print('wel', end=''); print('come')", ["2 python.stdout: welcome"]),
    "an answer": ("print('{}')\nprint('{\"major\": 3}')", ['2 python.stdout: {"major": 3}']),
    "a character in two parts": (
        "import sys; write = sys.stdout.buffer.write; write(b'\\xc3'); write(b'\\xa9\\n')",
        ["2 python.stdout: é"],
    ),
    "what is not UTF-8": (
        "import sys; sys.stdout.buffer.write(b'\\xff\\n')",
        ["2 python.stdout: \\xff"],
    ),
    "what UTF-8 cannot say": ("print('a\\udc80\\0b')", ["2 python.stdout: a\\udc80\\x00b"]),
    "after reconfigure": (
        "import sys; sys.stdout.reconfigure(encoding='utf-8', line_buffering=True); print('é')",
        ["2 python.stdout: é"],
    ),
    "to sys.__stdout__": ("import sys; print('there', file=sys.__stdout__)", ["2 python.stdout: there"]),
    "to stderr": ("import sys; print('oh', file=sys.stderr)", ["3 python.stderr: oh"]),
    "to sys.__stderr__": ("import sys; sys.__stderr__.write('oh\\n')", ["3 python.stderr: oh"]),
    "a warning": ("import warnings; warnings.warn('old')", ["UserWarning: old"]),
    "in a thread": (
        "import threading; t = threading.Thread(target=print, args=['welcome']); t.start(); t.join()",
        ["2 python.stdout: welcome"],
    ),
    "at exit": ("import atexit; atexit.register(print, 'goodbye')", ["2 python.stdout: goodbye"]),
    "at exit, without an end": (
        "import atexit, sys; atexit.register(sys.stdout.write, '{}')",
        ["2 python.stdout: {}"],
    ),
    "at exit, to a stream that was kept": (
        "import atexit, sys; atexit.register(lambda out=sys.stderr: print('bye', file=out))",
        ["3 python.stderr: bye"],
    ),
    "a failure": ("raise ValueError('not today')", ["ValueError: not today"]),
}


@pytest.mark.many(4)
@pytest.mark.parametrize("what", sites)
def test_sitecustomize(what: str, logged: Ask, environment: Path) -> None:
    """Its output goes to the log, none of it to the host's stdout, and the engine runs."""
    code, records = sites[what]
    customize_site(environment, code)
    result = logged.run(engine("echoes:Async"), env=python_of(environment))
    assert (result.returncode, result.stdout) == (0, "a b "), result.stderr
    for record in records:
        assert record in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "import sys; print('from a .pth file')",
        "import sys; sys.stdout.write('from a .pth file')",
        "import atexit; atexit.register(print, 'from a .pth file')",
        "import printing",
    ],
)
def test_pth_file(line: str, logged: Ask, environment: Path) -> None:
    """The same for a line of code in a .pth file, and for a module that it imports."""
    (site_packages(environment) / "early.pth").write_text(line + "\n")
    (site_packages(environment) / "printing.py").write_text("print('from a .pth file', flush=True)\n")
    result = logged.run(engine("echoes:Async"), env=python_of(environment))
    assert (result.returncode, result.stdout) == (0, "a b "), result.stderr
    # Python reads the .pth files of a virtual environment twice.
    assert "[2 python.stdout: from a .pth file" in result.stderr


def test_site_that_ends_python(logged: Ask, environment: Path) -> None:
    """A site that exits is an error that says so, both when the interpreter is queried and in the process."""
    customize_site(environment, "import sys; sys.exit('no licence')")
    status, message = logged.error(engine("echoes:Async"), env=python_of(environment))
    assert status == "DYNAMO_ERROR_PYTHON_UNAVAILABLE"
    assert "no licence" in message
    customize_site(environment, "import sys; sys.argv == ['-c'] or sys.exit('no licence')")
    status, message = logged.error(engine("echoes:Async"), env=python_of(environment))
    assert status == "DYNAMO_ERROR_PYTHON_UNAVAILABLE"
    assert "SystemExit: no licence" in message


long_lines = """
import sys
sys.stdout.write("x" * 200_000)
sys.stdout.write("y\\n")
out = sys.stdout
result = [out.isatty(), out.encoding, out.writable(), out.readable(), out.name]
try:
    sys.stdout.fileno()
except OSError:
    result.append("no descriptor")
"""


def test_long_line(logged: Ask) -> None:
    """A line without an end is not buffered without bound: it becomes several records."""
    result = logged.run(engine("evaluating:Evaluator", options={"code": long_lines}))
    assert json.loads(result.stdout) == [False, "utf-8", True, False, "<stdout>", "no descriptor"]
    records = [line for line in result.stderr.splitlines() if line.startswith("[2 python.stdout: ")]
    assert len(records) > 1
    text = "".join(record.removeprefix("[2 python.stdout: ").removesuffix("]") for record in records)
    assert text == "x" * 200_000 + "y"


start = """
import builtins, json, site, subprocess, sys, sysconfig
flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"}
result = {
    "flags": {name: value for name, value in flags.items() if not callable(value) and name[:2] != "n_"},
    "of children": subprocess._args_from_interpreter_flags(),
    "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],
    "path": [folder for folder in sys.path if not folder.endswith("/engines")],
    "site": [site.ENABLE_USER_SITE, site.PREFIXES, site.getsitepackages()],
    "builtins": [name for name in ("exit", "help", "copyright") if hasattr(builtins, name)],
    "customized": sys.modules["sitecustomize"].loaded_before if "sitecustomize" in sys.modules else None,
    "scheme": sysconfig.get_paths()["purelib"],
    "executable": sys.executable,
}
"""

# Modules that a site finds loaded. Those for encodings depend on the locale.
customize = """
import sys
loaded_before = sorted(name for name in sys.modules if not name.startswith("encodings"))
"""


@pytest.mark.parametrize("system_site", [False, True])
def test_python_starts_as_usual(ask: Ask, tmp_path: Path, system_site: bool) -> None:
    """Flags, folders, builtins, and what a sitecustomize sees are those of an isolated interpreter."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, system_site_packages=system_site)
    customize_site(environment, customize)
    (site_packages(environment) / "more.pth").write_text(f"{tmp_path}\n/no/such/folder\n")
    python = environment / "bin" / "python"
    code = "import site\n" + start + "\nprint(json.dumps(result))"
    right: dict[str, Any] = json.loads(run([python, "-I", "-X", "utf8", "-c", code]).stdout)
    config = engine("evaluating:Evaluator", options={"code": start}, python={"executable": str(python)})
    got = json.loads(ask.text(config))
    assert got["path"][: len(right["path"])] == right["path"]
    assert str(tmp_path) in got["path"] and "-S" not in got["of children"]
    assert set(got["customized"]) <= set(right["customized"])
    same = ("flags", "prefixes", "site", "builtins", "scheme", "executable")
    assert [got[key] for key in same] == [right[key] for key in same]
    assert right["flags"]["no_site"] == 0


in_another = """
import sys, pathlib
try: import _interpreters as other
except ImportError: import _xxsubinterpreters as other
out = pathlib.Path(prompt)
one = other.create("legacy") if hasattr(other, "get_config") else other.create()
run = getattr(other, "run_string", None) or other.exec
said = "(sys.flags.no_site, 'site' in sys.modules, sys.path)"
run(one, f"import sys; open({prompt!r}, 'w').write(repr({said}))")
other.destroy(one)
no_site, has_site, path = eval(out.read_text())
result = [no_site, has_site, [folder for folder in sys.path if folder.endswith("-packages")][0] in path]
"""


def test_sub_interpreter_has_a_site(ask: Ask, environment: Path, tmp_path: Path) -> None:
    """A sub-interpreter that Python code of a C program creates finds the environment's packages, too."""
    python = {"executable": str(environment / "bin" / "python")}
    config = engine("evaluating:Evaluator", options={"code": in_another}, python=python)
    assert json.loads(ask.text(config, str(tmp_path / "said"))) == [0, True, True]
