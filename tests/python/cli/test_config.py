# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm config``, and the ways to compile and link a program."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import Ask, compile_c, dynamo_config, run, tests_dir
from dynamo_llm import __version__, paths

smallest = r"""
#include <dynamo_llm.h>
int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
    if (!runtime) return 1;
    dynamo_runtime_destroy(runtime);
    return 0;
}
"""


def test_smallest_program(tmp_path: Path) -> None:
    """A program of seven lines compiles without warnings and loads the demo model."""
    source = tmp_path / "smallest.c"
    source.write_text(smallest)
    flags = dynamo_config("--cflags", "--libs").split()
    result = run([compile_c(source, tmp_path / "smallest", *flags)])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("standard", ["-std=c99", "-std=c11", "-std=gnu17"])
def test_headers_are_plain_c(tmp_path: Path, standard: str) -> None:
    """Both headers compile with any C from C99 on, pedantically."""
    source = tmp_path / "headers.c"
    source.write_text("#include <dynamo_llm/engine.h>\n" + smallest)
    compile_c(source, tmp_path / "headers.o", standard, "-pedantic", "-c", *dynamo_config("--cflags").split())


def test_headers_are_cpp(tmp_path: Path) -> None:
    """Both headers compile as C++."""
    source = tmp_path / "headers.cpp"
    source.write_text("#include <dynamo_llm/engine.h>\n" + smallest)
    compile_c(source, tmp_path / "headers.o", "-c", *dynamo_config("--cflags").split())


def test_classic_flags(bare_ask: Ask) -> None:
    """-I, -L, and -l suffice, with LD_LIBRARY_PATH at run time; without it the program does not start."""
    env = {"LD_LIBRARY_PATH": dynamo_config("--libdir")}
    assert bare_ask.text({"engine": "echo"}, "hello world", env) == "hello world"
    assert bare_ask.run({"engine": "echo"}).returncode == 127


def test_static_library(tmp_path: Path) -> None:
    """A program that links the static library needs no libdynamo_llm_capi.so, and runs the demo model."""
    flags = dynamo_config("--cflags", "--libs", "--static").split()
    program = Ask(compile_c(tests_dir / "python" / "ask.c", tmp_path / "static", *flags))
    assert "libdynamo_llm_capi" not in run(["readelf", "-d", program.program]).stdout
    assert program.text({"engine": "echo"}, "hello") == "hello"
    env = {"DYNAMO_LLM_PYTHON": sys.executable}
    assert len(program.text({}, "What is a KV cache?", env)) > 10


def test_folders_and_version() -> None:
    """--libdir, --includedir, and --version print existing folders and the version."""
    assert (Path(dynamo_config("--libdir")) / "libdynamo_llm_capi.so.1").is_file()
    assert (Path(dynamo_config("--libdir")) / "libdynamo_llm_capi.a").is_file()
    header = Path(dynamo_config("--includedir")) / "dynamo_llm.h"
    match = re.search(r'VERSION_STRING "(.*)"', header.read_text())
    assert match is not None
    assert dynamo_config("--version") == match[1] == __version__
    assert (paths.include_dir() / "dynamo_llm" / "engine.h").is_file()


def test_schema() -> None:
    """--schema prints the JSON Schema with every key of a configuration."""
    schema = json.loads(dynamo_config("--schema"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == {
        "engine",
        "model",
        "offline",
        "device",
        "options",
        "pipeline",
        "name",
        "models",
        "cluster",
        "limits",
        "stream",
        "python",
        "media",
        "templates",
        "trust_request_chat_template",
        "tool_call_parser",
        "reasoning_parser",
        "isolation",
        "isolation_options",
    }


def test_usage_error() -> None:
    """Without an option, and with an invalid one, it prints its usage on stderr."""
    for options in ([], ["--no-such-option"]):
        result = run([sys.executable, "-m", "dynamo_llm", "config", *options])
        assert result.returncode == 2
        assert result.stdout == ""
        assert "Usage: python -m dynamo_llm config" in result.stderr


def test_script_is_installed() -> None:
    """The command dynamo-llm is the same program."""
    script = Path(sys.executable).parent / "dynamo-llm"
    assert run([script, "--version"]).stdout.strip().endswith(__version__)
    assert run([script, "config", "--libdir"]).stdout.strip() == dynamo_config("--libdir")
