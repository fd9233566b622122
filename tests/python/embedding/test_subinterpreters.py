# SPDX-License-Identifier: Apache-2.0
"""Sub-interpreters: importing the package there is an error, and the main interpreter continues."""

import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import Ask, compile_c, engine, engines_dir, run, run_python

prelude = f"""
import os, sys
sys.path.append({str(engines_dir)!r})
try: import _interpreters as other
except ImportError: import _xxsubinterpreters as other

def create(kind):
    if hasattr(other, "get_config"):  # 3.13
        return other.create(kind)
    return other.create(isolated=kind == "isolated")

def execute(one, code):
    # Its exception is raised here up to 3.12, and returned from 3.13 on.
    try:
        return getattr(getattr(other, "exec", other.run_string)(one, code), "msg", None)
    except Exception as error:
        return str(error)

def ask(engine, **more):
    with dynamo_llm.Runtime(engine=engine, **more) as runtime:
        return runtime.complete("again and again").result().text.strip()
"""
import_error = "dynamo_llm cannot be imported in a sub-interpreter"

codes = {
    "the package": "import dynamo_llm",
    "its module": "import dynamo_llm._core",
    "the host of engines": "import dynamo_llm.runtime.host",
    "a use": "import dynamo_llm\nwith dynamo_llm.Runtime(engine='echo') as r: r.chat('x').result()",
    "twice": "try: import dynamo_llm\nexcept ImportError: pass\nimport dynamo_llm._core",
}


@pytest.mark.many(4)
@pytest.mark.parametrize("kind", ["legacy", "isolated"])
@pytest.mark.parametrize("destroy", [True, False])
@pytest.mark.parametrize("what", codes)
def test_import_is_rejected(what: str, kind: str, destroy: bool) -> None:
    """The import is an ImportError that says what to do; existing and new runtimes answer."""
    result = run_python(f"""{prelude}
import dynamo_llm
runtime = dynamo_llm.Runtime(engine="echo")
for _ in range(2):
    one = create({kind!r})
    said = execute(one, {codes[what]!r})
    assert {import_error!r} in said and "WSGIApplicationGroup" in said, said
    if {destroy}: other.destroy(one)
print(runtime.complete("again and again").result().text)
print(ask("echo"))
print(ask("echoes:Async"))
""")
    assert (result.returncode, result.stdout) == (0, "again and again\n" * 3), result.stderr


@pytest.mark.parametrize("kind", ["legacy", "isolated"])
def test_first_import_is_rejected(kind: str) -> None:
    """The same if the package has not been imported before; the main interpreter may still import it."""
    result = run_python(f"""{prelude}
one = create({kind!r})
said = execute(one, "import dynamo_llm")
assert {import_error!r} in said, said
other.destroy(one)
import dynamo_llm
print(ask("echoes:Async"))
""")
    assert (result.returncode, result.stdout) == (0, "again and again\n"), result.stderr


def test_import_after_deletion() -> None:
    """The main interpreter may import the package again, and earlier objects still work."""
    result = run_python(f"""{prelude}
import dynamo_llm
before = dynamo_llm.Runtime(engine="echo")
for _ in range(3):
    for name in [name for name in sys.modules if name.split(".")[0] == "dynamo_llm"]:
        del sys.modules[name]
    import dynamo_llm
    print(ask("echo"))
print(before.complete("again and again").result().text)
""")
    assert (result.returncode, result.stdout) == (0, "again and again\n" * 4), result.stderr


@pytest.mark.parametrize("order", ["only there", "main first", "there first"])
def test_host_with_interpreters(order: str, tmp_path: Path) -> None:
    """A C program that gives an application its own interpreter, as web servers do."""
    folder, version = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("VERSION")
    flags = [
        f"-I{sysconfig.get_paths()['include']}",
        f"-L{folder}",
        f"-Wl,-rpath,{folder}",
        f"-lpython{version}",
    ]
    program = compile_c(Path(__file__).with_name("interpreters.c"), tmp_path / "interpreters", *flags)
    result = run([program, order], {"PYTHONPATH": ":".join(folder for folder in sys.path if folder)})
    said = f"ImportError: {import_error}"
    there, main = result.stdout.count(said), result.stdout.count("main: hello")
    assert result.returncode == 0, result.stderr
    assert (there, main) == (2, 0 if order == "only there" else 2), result.stdout


in_c_program = """
import sys
try: import _interpreters as other
except ImportError: import _xxsubinterpreters as other
one = other.create("legacy") if hasattr(other, "get_config") else other.create(isolated=False)
try:
    result = getattr(other, "exec", other.run_string)(one, "import dynamo_llm").msg
except Exception as error:
    result = str(error)
other.destroy(one)
"""


def test_engine_in_a_c_program(ask: Ask) -> None:
    """The same if the library started Python: a sub-interpreter of an engine cannot import the package."""
    text = ask.text(engine("evaluating:Evaluator", options={"code": in_c_program}))
    assert import_error in text
