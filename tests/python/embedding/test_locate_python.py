# SPDX-License-Identifier: Apache-2.0
"""Which Python a C program gets, and the error if no Python is suitable."""

import json
import os
import shlex
import shutil
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import Ask, engine, run
from dynamo_llm import paths

unavailable = "DYNAMO_ERROR_PYTHON_UNAVAILABLE"
here = f"{sys.version_info[0]}.{sys.version_info[1]}"
reporter = engine("reporting:Reporter")
Script = Callable[[str, str], Path]


def same(first: str, second: str | Path) -> bool:
    return os.path.samefile(first, second)


# ------------------------------------------------------------------------- a Python that is found


def test_own_environment(ask: Ask) -> None:
    """By default it is the environment that the library is installed in, with its packages."""
    report = ask.report("mistralrs click _ctypes sqlite3 asyncio dynamo_llm")
    assert report["version"] == here
    assert same(report["prefix"], sys.prefix)
    assert same(report["base_prefix"], sys.base_prefix)
    assert same(Path(report["executable"]).parent, Path(sys.executable).parent)
    modules = report["modules"]
    assert all(file is None or Path(file).is_file() for file in modules.values()), modules
    assert modules["dynamo_llm"] == dynamo_llm.__file__


def test_python_variables_are_ignored(ask: Ask, tmp_path: Path) -> None:
    """Hostile PYTHONHOME, PYTHONPATH, and PYTHONSTARTUP change nothing."""
    for name in ("os", "site", "json", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the one')")
    env = {
        "PYTHONHOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "os.py"),
        "PYTHONWARNINGS": "error",
        "PYTHONVERBOSE": "1",
    }
    report = ask.report(env=env)
    assert same(report["prefix"], sys.prefix)
    assert str(tmp_path) not in report["path"]


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "no_SUCH"])
def test_any_locale(ask: Ask, locale: str) -> None:
    """Python uses UTF-8 under every locale, and texts arrive unchanged."""
    report = ask.report(env={"LC_ALL": locale, "LANG": locale})
    assert report["filesystem_encoding"] == "utf-8"
    assert report["encoding"].lower() == "utf-8"
    assert report["encoded"] == "é".encode().decode("latin-1")
    assert report["text"] == "äöü €"
    assert ask.text(engine("echoes:Async"), "größer ≥ 日本", {"LC_ALL": locale}) == "größer ≥ 日本 "


def make_environment(folder: Path) -> Path:
    """Creates a virtual environment that has only a module of its own. Returns its interpreter."""
    venv.create(folder, with_pip=False)
    site_packages = folder / "lib" / f"python{here}" / "site-packages"
    (site_packages / "only_here.py").write_text("")
    return folder / "bin" / "python"


def test_chosen_environment(ask: Ask, tmp_path: Path) -> None:
    """The key "python.executable" selects another environment; the package is that of the library."""
    python = make_environment(tmp_path / "other é")
    report = ask.report("only_here dynamo_llm click", executable=str(python))
    assert report["prefix"] == str(tmp_path / "other é")
    assert same(report["base_prefix"], sys.base_prefix)
    assert report["executable"] == str(python)
    assert Path(report["modules"]["only_here"]).is_file()
    assert report["modules"]["dynamo_llm"] == dynamo_llm.__file__
    assert ask.report(env={"DYNAMO_LLM_PYTHON": str(python)})["executable"] == str(python)


def test_package_outside_of_any_environment(bare_ask: Ask, tmp_path: Path) -> None:
    """`pip install --target` installs it like that; without mistral.rs the error says what to install."""
    shutil.copytree(Path(dynamo_llm.__file__).parent, tmp_path / "target" / "dynamo_llm")
    python = make_environment(tmp_path / "other")
    library = tmp_path / "target" / "dynamo_llm" / "lib"
    env = {"LD_LIBRARY_PATH": str(library), "DYNAMO_LLM_PYTHON": str(python)}
    report = bare_ask.report("dynamo_llm", env)
    assert report["prefix"] == str(tmp_path / "other")
    assert report["modules"]["dynamo_llm"] == str(tmp_path / "target" / "dynamo_llm" / "__init__.py")
    status, message = bare_ask.error({}, env=env)
    assert status == "DYNAMO_ERROR_ENGINE_UNAVAILABLE", message
    assert "pip install mistralrs" in message


def test_virtual_env(bare_ask: Ask, lonely_library: Path) -> None:
    """A library outside of any environment uses the one that VIRTUAL_ENV names."""
    env = {"LD_LIBRARY_PATH": str(lonely_library), "VIRTUAL_ENV": sys.prefix, "PATH": ""}
    assert same(bare_ask.report(env=env)["prefix"], sys.prefix)


def test_path_is_searched(bare_ask: Ask, lonely_library: Path, write_script: Script) -> None:
    """After that, the first suitable python3 on PATH is used."""
    bad = write_script("bad/python3", "#!/bin/sh\nexit 1\n")
    path = f"{bad.parent}:/no/such/folder:{Path(sys.executable).parent}"
    env = {"LD_LIBRARY_PATH": str(lonely_library), "PATH": path}
    assert same(bare_ask.report(env=env)["prefix"], sys.prefix)


def test_link_to_the_library(bare_ask: Ask, tmp_path: Path) -> None:
    """A symbolic link to the library leads to the environment that it is installed in."""
    (tmp_path / "libdynamo_llm_capi.so.1").symlink_to(paths.lib_dir() / "libdynamo_llm_capi.so.1")
    env = {"LD_LIBRARY_PATH": str(tmp_path), "PATH": ""}
    assert same(bare_ask.report(env=env)["prefix"], sys.prefix)


def test_multiprocessing_from_an_engine(ask: Ask) -> None:
    """Python's subprocesses are the environment's interpreter."""
    executable = ask.report()["executable"]
    assert run([executable, "-c", "import dynamo_llm, sys; print(sys.prefix)"]).stdout.strip() == sys.prefix


# What a site may do to the short-lived process that reports about its Python; only there, because that
# process has its own descriptors.
asked = "import atexit, os, sys, threading, time\nif sys.argv == ['-c']:\n    "
sites = {
    "prints at the start": "print('welcome', flush=True)",
    "prints without a newline": "print('{', end='', flush=True)",
    "prints at the end": "atexit.register(print, 'goodbye')",
    "prints a JSON object": "print('{}', flush=True); atexit.register(print, '{\"major\": 2}')",
    "prints to stderr": "sys.stderr.write('{')",
    "writes to descriptor 1": "os.write(1, b'{\\n{'); atexit.register(os.write, 1, b'}')",
    "closes stdout": "sys.stdout.close()",
    "closes descriptor 1": "os.close(1)",
    "redirects descriptor 1": "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
    "replaces stdout": "sys.stdout = open(os.devnull, 'w')",
    "prints in a thread": (
        "threading.Thread(target=lambda: [print('on', flush=True) for _ in range(9999)], daemon=True).start()"
    ),
    "prints a great deal": "print('much ' * 1_000_000)",
    "does not end": "atexit.register(time.sleep, 3600)",
    "leaves a thread": "threading.Thread(target=time.sleep, args=[3600]).start()",
    "leaves a process": "os.posix_spawn('/bin/sleep', ['sleep', '30'], {})",
}


@pytest.mark.many(4)
@pytest.mark.parametrize("what", sites)
def test_site_that_disturbs_the_query(what: str, ask: Ask, tmp_path: Path) -> None:
    """The interpreter's answer is read whatever its sitecustomize prints, or does to its streams."""
    python = make_environment(tmp_path / "other")
    packages = tmp_path / "other" / "lib" / f"python{here}" / "site-packages"
    (packages / "sitecustomize.py").write_text(f"{asked}{sites[what]}\n")
    assert ask.report("only_here", executable=str(python))["prefix"] == str(tmp_path / "other")


@pytest.mark.parametrize("name", ["one,two", "with blank, too", "a;b 'c' $HOME \"d\"", "back\\slash é"])
def test_environment_of_any_name(name: str, ask: Ask, tmp_path: Path) -> None:
    """No character of a folder's name is special, in the configuration and in DYNAMO_LLM_PYTHON."""
    python = make_environment(tmp_path / name)
    report = ask.report("only_here", executable=str(python))
    assert (report["prefix"], report["executable"]) == (str(tmp_path / name), str(python))
    assert Path(report["modules"]["only_here"]).is_file()
    assert ask.report(env={"DYNAMO_LLM_PYTHON": str(python)})["prefix"] == str(tmp_path / name)


# ------------------------------------------------------------------------- a Python that will not do


def test_no_python_at_all(bare_ask: Ask, lonely_library: Path) -> None:
    """The message lists where the library searched and what to do; native engines work."""
    env = {"LD_LIBRARY_PATH": str(lonely_library), "PATH": str(lonely_library)}
    status, message = bare_ask.error({}, env=env)
    assert status == unavailable
    assert "the environment that this library is installed in: none" in message
    assert "VIRTUAL_ENV: none" in message
    assert "python3 on PATH: none" in message
    assert "DYNAMO_LLM_PYTHON" in message and '"python": {"executable"' in message
    assert bare_ask.text({"engine": "echo"}, "hello", env) == "hello"


good_answer = {
    "implementation": "cpython",
    "major": sys.version_info[0],
    "minor": sys.version_info[1],
    "free_threaded": False,
    "library_folders": ["/no/such/folder", "/nor/this"],
    "library_name": f"libpython{here}.so.1.0",
    "package": "",
}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"minor": 99}, ["is Python 3.99", f"is built for Python {here}"]),
        ({"minor": 9}, ["is Python 3.9; 3.10 or newer is needed"]),
        ({"major": 2, "minor": 7}, ["is Python 2.7; 3.10 or newer is needed"]),
        ({"free_threaded": True}, ["is a free-threaded build"]),
        ({"implementation": "pypy"}, ["is not CPython"]),
        (
            {},
            [
                f"without its shared library libpython{here}.so.1.0",
                "looked in /no/such/folder, /nor/this",
                f"install the package libpython{here}",
            ],
        ),
    ],
)
def test_unsuitable_python(
    ask: Ask, write_script: Script, change: dict[str, Any], messages: list[str]
) -> None:
    """An interpreter of an unsuitable kind is rejected, by name and with the reason."""
    answer = shlex.quote(json.dumps({**good_answer, **change}))
    script = write_script("fake", f"#!/bin/sh\necho a line before\necho {answer}\n")
    status, message = ask.error({"python": {"executable": str(script)}})
    assert status == unavailable
    for part in [str(script), '"python.executable" of the configuration', *messages]:
        assert part in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho no Python here; exit 1\n", "is not a working Python; it printed: no Python here"),
        ("#!/bin/sh\nkill -9 $$\n", "is not a working Python; it printed: nothing"),
        ("#!/bin/sh\necho '{\"library_folders\": 7}'\n", "is not a working Python"),
        ('#!/bin/sh\necho \'{"library_folders": [], "major": "3"}\'\n', "is not a working Python"),
        ("#!/bin/sh\nprintf 'not UTF-8: \\377\\n'\n", "is not a working Python; it printed: not UTF-8: "),
        ("#!/no/such/shell\n", "cannot be started"),
        ("not a program", "is not a working Python"),
    ],
)
def test_executable_that_is_not_python(ask: Ask, write_script: Script, text: str, said: str) -> None:
    """A program that is not a Python interpreter is rejected, and the error quotes its output."""
    script = write_script("fake", text)
    status, message = ask.error({"python": {"executable": str(script)}})
    assert status == unavailable
    assert f"{script} {said}" in message or ("not a program" in text and str(script) in message)


def test_path_that_is_not_an_executable(ask: Ask, tmp_path: Path) -> None:
    """A missing path and a plain file are rejected, and no other interpreter is tried."""
    (tmp_path / "plain").write_text("")
    for path in ("/no/such/python", str(tmp_path / "plain"), str(tmp_path)):
        for config, env, origin in (
            ({"python": {"executable": path}}, {}, "python.executable"),
            ({}, {"DYNAMO_LLM_PYTHON": path}, "environment variable DYNAMO_LLM_PYTHON"),
        ):
            status, message = ask.error(config, env=env)
            assert status == unavailable
            assert f"{path} is not an executable file" in message
            assert origin in message and "VIRTUAL_ENV" not in message


def test_python_without_the_package(bare_ask: Ask, lonely_library: Path, tmp_path: Path) -> None:
    """For a library outside of its package, and a Python without dynamo_llm, the message says how to install
    it.
    """
    python = make_environment(tmp_path / "empty")
    env = {"LD_LIBRARY_PATH": str(lonely_library), "DYNAMO_LLM_PYTHON": str(python)}
    status, message = bare_ask.error({}, env=env)
    assert status == unavailable
    assert f"{python} is Python {here} without the package dynamo_llm" in message
    assert f"run in a clone of dynamo-llm: {python} -m pip install ." in message


def test_configuration_after_a_failure(ask: Ask) -> None:
    """Keys of "python" are checked before the library searches for Python."""
    status, message = ask.error({"python": {"executable": 3}})
    assert status == "DYNAMO_ERROR_INVALID_CONFIG" and "python.executable" in message
    status, message = ask.error({"python": {"path": [1]}})
    assert status == "DYNAMO_ERROR_INVALID_CONFIG" and "python.path" in message
