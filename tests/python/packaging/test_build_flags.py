# SPDX-License-Identifier: Apache-2.0
"""The output of ``dynamo-llm config``, pkg-config, and CMake for a package in a folder of any name; linkers;
SWIG.

The folders contain copies of the installed package, as a wheel installs it.
"""

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import dynamo_llm
import pytest
from conftest import Completed, dynamo_config, run, tests_dir

ask_c = tests_dir / "python" / "ask.c"
path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

# Names without characters that a shell interprets, and with some.
plain_names = ["one,two", "größe", "a=b,c=d", "x+y@z%", "-Wl,-s", "日本,語"]
special_names = [
    "with blank",
    "it's",
    'a "quote"',
    "dol$lar",
    "back\\slash",
    "a;b & (c)",
    "hash#1 [x]",
    "a, 'b', é",
]

Place = Callable[[str], Path]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Copies what a build needs of the package into a folder of a given name. Returns that folder."""

    def copy(name: str) -> Path:
        source, target = Path(dynamo_llm.__file__).parent, tmp_path / name / "dynamo_llm"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("models", "__pycache__", "*.pyc"))
        return tmp_path / name

    return copy


def answer(program: Path) -> str:
    """Returns the answer of a program made from ask.c or ask.cpp."""
    result = run([program, '{"engine": "echo"}', "hello"])
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def config(folder: Path, *options: str) -> Completed:
    """Runs ``dynamo-llm config`` of the package in a folder."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from dynamo_llm.cli import main; main()"
    return run([sys.executable, "-c", code, "config", *options])


def flags(folder: Path, *options: str) -> str:
    result = config(folder, *options)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.many(7)
@pytest.mark.parametrize("options", [("--cflags", "--libs"), ("--cflags", "--libs", "--static")])
@pytest.mark.parametrize("name", plain_names + special_names)
def test_folder(name: str, options: tuple[str, ...], place: Place, tmp_path: Path) -> None:
    """The flags are quoted for a shell; a program that was linked with them finds the library."""
    program = tmp_path / "ask"
    words = flags(place(name), *options)
    assert any(word.endswith(f"{name}/dynamo_llm/include") for word in shlex.split(words))
    command = f"gcc {shlex.quote(str(ask_c))} -o {shlex.quote(str(program))} {words}"
    result = run(["sh", "-c", command])
    assert result.returncode == 0, result.stderr
    assert answer(program) == "hello"


@pytest.mark.many(3)
@pytest.mark.parametrize("name", plain_names)
def test_substitution(name: str, place: Place, tmp_path: Path) -> None:
    """$(...) works without eval, unless a name has blanks or characters that a shell interprets."""
    (tmp_path / "config").write_text(flags(place(name), "--cflags", "--libs") + "\n")
    result = run(["sh", "-c", f"gcc {ask_c} -o {tmp_path}/ask $(cat {tmp_path}/config)"])
    assert result.returncode == 0, result.stderr
    assert answer(tmp_path / "ask") == "hello"


@pytest.mark.parametrize("name", ["a:b", ":", "a, b:c"])
def test_folder_that_a_run_path_cannot_name(name: str, place: Place, tmp_path: Path) -> None:
    """The error says what is wrong; the static library needs no run path."""
    folder = place(name)
    result = config(folder, "--libs")
    assert result.returncode == 1
    assert str(folder) in result.stderr and "--static" in result.stderr
    words = shlex.split(flags(folder, "--cflags", "--libs", "--static"))
    compiled = run(["gcc", ask_c, "-o", tmp_path / "ask", *words])
    assert compiled.returncode == 0, compiled.stderr
    assert answer(tmp_path / "ask") == "hello"


@pytest.mark.parametrize("name", ["one,two", "größe", "with blank", "-dash, 日本"])
def test_pkgconfig(name: str, place: Place, tmp_path: Path) -> None:
    """pkg-config's flags for both libraries, and the run path of docs/packaging.md."""
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    env = {"PKG_CONFIG_PATH": str(place(name) / "dynamo_llm" / "lib" / "pkgconfig")}
    for library in ("dynamo_llm_capi", "dynamo_llm_capi_static"):
        command = (
            f'eval "gcc {ask_c} -o {tmp_path}/ask $(pkg-config --cflags --libs {library}) '
            '-Xlinker -rpath -Xlinker $(pkg-config --variable=libdir dynamo_llm_capi)"'
        )
        result = run(["sh", "-c", command], env)
        assert result.returncode == 0, result.stderr
        assert answer(tmp_path / "ask") == "hello"


@pytest.mark.many(3)
@pytest.mark.parametrize("language", ["c", "cxx"])
@pytest.mark.parametrize("name", ["one,two", "größe 日本", "dol$lar, 'x'"])
def test_cmake(name: str, language: str, place: Place, tmp_path: Path) -> None:
    """find_package() in such a folder; the program runs from the build tree."""
    folder = place(name) / "dynamo_llm" / "lib" / "cmake" / "DynamoLLM"
    components = {"c": "capi", "cxx": "cxx"}[language]
    cmake = shutil.which("cmake", path=path)
    if cmake is None or shutil.which("ninja", path=path) is None:
        pytest.skip("cmake or ninja is not installed")
    options = [f"-DDynamoLLM_DIR={folder}", f"-DCOMPONENTS={components}", "-G", "Ninja"]
    project = tests_dir / "consumers" / language
    for command in (["-S", project, "-B", tmp_path / "build", *options], ["--build", tmp_path / "build"]):
        result = run([cmake, *command], {"PATH": path})
        assert result.returncode == 0, result.stdout + result.stderr
    assert answer(tmp_path / "build" / "consumer") == "hello"


def zig() -> list[str]:
    if shutil.which("zig"):
        return ["zig", "cc"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    pytest.skip("zig is not installed")


linkers = {
    "bfd": ["gcc", "-fuse-ld=bfd"],
    "gold": ["gcc", "-fuse-ld=gold"],
    "lld": ["gcc", "-fuse-ld=lld"],
    "mold": ["gcc", "-B/usr/libexec/mold"],
    "clang": ["clang"],
    "tcc": ["tcc"],
}
programs = {"bfd": "ld.bfd", "gold": "ld.gold", "lld": "ld.lld"}


@pytest.mark.many(3)
@pytest.mark.parametrize("linker", [*linkers, "zig"])
def test_linker(linker: str, tmp_path: Path) -> None:
    """Each linker links the wheel's shared library, whose plain name is a linker script."""
    if linker != "zig" and shutil.which(programs.get(linker, linker)) is None:
        pytest.skip(f"{linker} is not installed")
    command = zig() if linker == "zig" else linkers[linker]
    words = dynamo_config("--cflags", "--libs")
    result = run([*command, ask_c, "-o", tmp_path / "ask", *shlex.split(words)], {**os.environ, "PATH": path})
    assert result.returncode == 0, result.stderr
    assert answer(tmp_path / "ask") == "hello"
    assert "libdynamo_llm_capi.so.1]" in run(["readelf", "-d", tmp_path / "ask"]).stdout


interface = """
%module dynamo_wrapped
%{
#include <dynamo_llm.h>
#include <dynamo_llm/engine.h>
#include <dynamo_llm/cluster.h>
%}
%include <stdint.i>
%include <dynamo_llm.h>
%include <dynamo_llm/engine.h>
%include <dynamo_llm/worker.h>
%include <dynamo_llm/kv_events.h>
%include <dynamo_llm/router.h>
"""


@pytest.mark.many(3)
@pytest.mark.parametrize("language", ["python", "java", "csharp"])
def test_swig(language: str, tmp_path: Path) -> None:
    """SWIG reads all C headers, and its output compiles."""
    if shutil.which("swig") is None:
        pytest.skip("swig is not installed")
    (tmp_path / "wrapped.i").write_text(interface)
    words = dynamo_config("--cflags", "--libs")
    include, *libs = shlex.split(words)
    made = run(
        ["swig", f"-{language}", include, "-DSWIGWORDSIZE64", "-o", tmp_path / "wrapped.c", "wrapped.i"],
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    if language != "python":
        return
    headers = sysconfig.get_paths()["include"]
    extension = ["-shared", "-fPIC", "-o", tmp_path / "_dynamo_wrapped.so"]
    compiled = run(["gcc", *extension, tmp_path / "wrapped.c", include, f"-I{headers}", *libs])
    assert compiled.returncode == 0, compiled.stderr
    use = (
        "import dynamo_wrapped as d\n"
        'runtime = d.dynamo_runtime_create(\'{"engine": "echo"}\')\n'
        'request = d.dynamo_request_create(\'{"prompt": "hello"}\')\n'
        "assert d.dynamo_request_send(runtime, request) == d.DYNAMO_OK\n"
        "print(d.dynamo_response_text(d.dynamo_request_recv(request), None))\n"
    )
    said = run([sys.executable, "-c", use], {"PYTHONPATH": os.fspath(tmp_path)})
    assert said.stdout == "hello\n", said.stderr
