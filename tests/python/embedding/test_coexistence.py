# SPDX-License-Identifier: Apache-2.0
"""Other libraries, other copies of this one, and other uses of Python in the same process."""

import importlib.util
import json
import shutil
import sys
import sysconfig
from pathlib import Path

import dynamo_llm
import pytest
from conftest import compile_c, dynamo_config, engines_dir, run
from dynamo_llm.paths import lib_dir
from reliability import reliability

two_copies = """
import ctypes, json, sys
import dynamo_llm

def ask(library, config):
    c = ctypes.CDLL(library)
    for name in ("runtime_create", "request_create", "request_recv"):
        getattr(c, "dynamo_" + name).restype = ctypes.c_void_p
    c.dynamo_response_text.restype = c.dynamo_last_error.restype = ctypes.c_char_p
    runtime = c.dynamo_runtime_create(json.dumps(config).encode())
    if not runtime:
        return c.dynamo_last_error().decode()
    request = ctypes.c_void_p(c.dynamo_request_create(b'{"prompt": "hello"}'))
    assert c.dynamo_request_send(ctypes.c_void_p(runtime), request) == 0, c.dynamo_last_error()
    text = b""
    while response := c.dynamo_request_recv(request):
        text += c.dynamo_response_text(ctypes.c_void_p(response), None)
        c.dynamo_free(ctypes.c_void_p(response))
    c.dynamo_request_destroy(request)
    c.dynamo_runtime_destroy(ctypes.c_void_p(runtime))
    return text.decode().strip()

copies, engines = sys.argv[1:3], sys.argv[3]
for copy in (*copies, *reversed(copies)):
    print(ask(copy, {"engine": "echo"}))
for copy in copies:
    print(ask(copy, {"engine": "echoes:Async", "python": {"path": [engines]}}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Linux's here")
def test_two_copies(tmp_path: Path) -> None:
    """Native engines run in both; Python engines run in the copy whose package Python imported first."""
    shutil.copytree(lib_dir().parent, tmp_path / "dynamo_llm")
    copies = [folder / "libdynamo_llm_capi.so.1" for folder in (lib_dir(), tmp_path / "dynamo_llm" / "lib")]
    result = run([sys.executable, "-c", two_copies, *copies, engines_dir])
    assert result.returncode == 0, result.stderr
    *native, first, second = result.stdout.splitlines()
    assert native == ["hello"] * 4 and first == "hello"
    assert f"this process has imported dynamo_llm from {lib_dir().parent}" in second
    assert f"belongs to {tmp_path / 'dynamo_llm'}" in second
    reliability(
        "two copies of the library in one process",
        1,
        "native engines ran in both; an engine in Python in the first, and the second said why not",
    )


work = """
def work():
    with dynamo_llm.Runtime(engine="echo") as runtime:
        assert runtime.complete("a b").result().text == "a b"
    with dynamo_llm.Runtime() as runtime:
        assert runtime.chat("What is a KV cache?", max_tokens=8).result().text
"""
neighbours = {
    "numpy": "assert numpy.linalg.inv(numpy.eye(300) * 2).sum() == 150",
    "torch": "assert float((torch.eye(300) @ torch.eye(300)).sum()) == 300",
    "tokenizers": "tokenizers.Tokenizer(tokenizers.models.BPE())",
    "dynamo.runtime": "assert dynamo.runtime.DistributedRuntime",
}


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", neighbours)
def test_beside_another_library(name: str, order: str) -> None:
    """Both work, in turn and in threads, in either order of import."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    imports = [f"import {name}", "import dynamo_llm"]
    code = "\n".join(imports if order == "before" else imports[::-1]) + work
    code += f"""
def other():
    {neighbours[name]}
other(); work(); other()
import threading
threads = [threading.Thread(target=target) for target in (other, work, other, work)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""
    result = run([sys.executable, "-c", code])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    reliability(
        f"{name} in the same process, imported {order} the library", 4, "both worked, in turn and in threads"
    )


def test_a_host_that_is_an_extension(tmp_path: Path) -> None:
    """A C extension module calls the library: with the GIL, without it, and from its own thread."""
    include = sysconfig.get_paths()["include"]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    source = Path(__file__).parent / "extension.c"
    flags = ["-shared", "-fPIC", f"-I{include}", *dynamo_config("--cflags", "--libs").split(), "-pthread"]
    compile_c(source, tmp_path / f"extension{suffix}", *flags)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import extension
config = '{{"engine": "echoes:Async", "python": {{"path": ["{engines_dir}"]}}}}'
for _ in range(10):
    for way in ("with the GIL", "without the GIL", "in a thread"):
        assert extension.ask('{{"engine": "echo"}}', way) == "a b", way
        if way != "with the GIL":  # the engine needs the GIL: see test_deadlocks.py
            assert extension.ask(config, way) == "a b ", way
import dynamo_llm
with dynamo_llm.Runtime(engine="echo") as runtime:
    assert runtime.complete("c").result().text == "c"
print("done")
"""
    result = run([sys.executable, "-c", code])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    reliability(
        "a host that is an extension module of Python", 50, "as anywhere else, with the GIL and without"
    )


@pytest.mark.parametrize("order", ["before", "after", "never"])
def test_a_host_that_embeds_python(order: str, tmp_path: Path) -> None:
    """A C program starts Python itself, before or after the library, uses the GIL, and finalizes Python
    before it releases its runtimes. If it started Python first, it initializes Python again.
    """
    get = sysconfig.get_config_var
    library = Path(get("LIBDIR")) / f"libpython{get('LDVERSION')}.so"
    if not library.exists():
        pytest.skip(f"there is no {library}")
    flags = [f"-I{sysconfig.get_paths()['include']}", *dynamo_config("--cflags", "--libs").split()]
    flags += [
        f"-L{library.parent}",
        f"-Wl,-rpath,{library.parent}",
        f"-lpython{get('LDVERSION')}",
        "-pthread",
    ]
    program = compile_c(Path(__file__).parent / "embedder.c", tmp_path / "embedder", *flags)
    config = json.dumps({"engine": "echoes:Async", "python": {"path": [str(engines_dir)]}})
    environment = {"PYTHONPATH": str(lib_dir().parent.parent), "DYNAMO_LLM_PYTHON": sys.executable}
    if order == "before":
        environment["PYTHONHOME"] = sys.base_prefix
    result = run([program, order, config], environment)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    reliability(
        f"a host that embeds Python: Py_Initialize() {order} the library, Py_FinalizeEx() before the end",
        1,
        "both used Python; afterwards CLOSED, and runtimes could be released",
    )


def test_the_loaded_library_is_this_packages() -> None:
    """The library that is loaded is this package's."""
    assert Path(dynamo_llm.__file__).parent == lib_dir().parent
