# SPDX-License-Identifier: Apache-2.0
"""What the installed binaries export and need."""

import re
from pathlib import Path

import dynamo_llm
from conftest import run, tests_dir
from dynamo_llm import _core, paths

library = paths.lib_dir() / "libdynamo_llm_capi.so.1"


def output(*command: str | Path) -> str:
    result = run(command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def declared() -> set[str]:
    """Returns the functions that the installed headers declare."""
    names: set[str] = set()
    for header in paths.include_dir().rglob("*.h"):
        text = re.sub(r"/\*.*?\*/|^#.*?$", "", header.read_text(), flags=re.DOTALL | re.MULTILINE)
        names |= set(re.findall(r"DYNAMO_LLM_API\s[^;(]*?(\w+)\(", text))
    return names


def prototypes() -> dict[str, str]:
    """Returns every function declaration of the installed headers, with the text before its name."""
    found: dict[str, str] = {}
    for header in paths.include_dir().rglob("*.h"):
        text = re.sub(r"/\*.*?\*/|^#.*?$", "", header.read_text(), flags=re.DOTALL | re.MULTILINE)
        for before, name, parameters in re.findall(
            r"^(\w[^;{}()]*?)(dynamo_\w+)\(([^;]*)\);", text, re.MULTILINE
        ):
            if not before.startswith("DYNAMO_ENGINE_EXPORT "):  # defined by an engine's library
                found[name] = f"{before}({parameters}"
    return found


def test_each_function_is_exported() -> None:
    """Each function is declared with DYNAMO_LLM_API; otherwise no library would export it."""
    for name, text in prototypes().items():
        assert text.startswith("DYNAMO_LLM_API "), f"{name} is declared without DYNAMO_LLM_API"
    assert set(prototypes()) == declared()


def test_each_handle_is_tried() -> None:
    """Each function whose first parameter is a handle is in the table that passes invalid handles."""
    kinds = "runtime|request|response|stream|tokenizer|detokenizer|kv_publisher|router"
    handle = rf"\((const )?dynamo_({kinds})_t \*\w+[,)]?"
    takers = {name for name, text in prototypes().items() if re.search(handle, text)}
    assert len(takers) > 20
    table = (tests_dir / "c" / "calls.c").read_text()
    missing = sorted(name for name in takers if f'{{"{name}", ' not in table)
    assert missing == [], f"not in the table of tests/c/calls.c: {', '.join(missing)}"


def exported(binary: Path) -> set[str]:
    """Returns the symbols that a binary defines for others."""
    lines = output("nm", "-D", "--defined-only", binary).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if " A " not in line}


def test_exports_are_the_headers() -> None:
    """The library exports each function of the headers and nothing else."""
    assert len(declared()) > 40
    assert exported(library) == declared()


def test_exports_have_a_version() -> None:
    """Each symbol carries the version of the ABI."""
    lines = output("nm", "-D", "--defined-only", library).splitlines()
    assert all(line.endswith("@@DYNAMO_LLM_1") for line in lines if " A " not in line)


def test_needs_of_the_library() -> None:
    """Its soname has the ABI version; it does not need Python."""
    dynamic = output("readelf", "-d", library)
    assert "Library soname: [libdynamo_llm_capi.so.1]" in dynamic
    assert "libpython" not in dynamic
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic


def test_needs_of_the_module() -> None:
    """The Python module links neither to libpython nor to the library: it uses those of the process."""
    dynamic = output("readelf", "-d", _core.__file__)
    assert "libpython" not in dynamic
    assert "libdynamo_llm_capi" not in dynamic
    assert {name for name in exported(Path(_core.__file__)) if "dynamo" in name} == {"dynamo_bridge_start"}


def test_nothing_else_is_installed() -> None:
    """The only build products in the package are the library, its archive, and the module."""
    folder = Path(dynamo_llm.__file__).parent
    found = {path.name for path in folder.rglob("*") if re.search(r"\.(so|a|o)(\.|$)", path.name)}
    names = {library.name, "libdynamo_llm_capi.so", "libdynamo_llm_capi.a", Path(_core.__file__).name}
    assert found == names
