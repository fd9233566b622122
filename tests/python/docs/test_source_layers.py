# SPDX-License-Identifier: Apache-2.0
"""The folders of cpp/ are layers, and #include directives point down only; likewise in Python."""

import re
from pathlib import Path

cpp = Path(__file__).resolve().parents[3] / "cpp"

#: From the lowest to the highest: a layer may include itself and those before it.
layers = ["base", "stream", "runtime", "engines", "embed", "capi", "services"]

#: The Python module is a binary of its own, with these folders.
module = ["frontend", "tokens", "python"]
#: It uses the C API and shares only these with the library.
python_may_include = re.compile(r"base/|embed/bridge\.h$|python/|frontend/|tokens/")


def includes(file: Path) -> list[str]:
    """Returns what a file includes from cpp/."""
    named = re.findall(r'^\s*#\s*include\s+"([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
    return [include for include in named if include.partition("/")[0] in [*layers, *module]]


def sources(layer: str) -> list[Path]:
    """Returns the C++ files of a layer."""
    found = sorted(file for file in (cpp / layer).rglob("*") if file.suffix in {".cpp", ".hpp", ".h"})
    assert found, layer
    return found


def test_each_folder_is_a_layer() -> None:
    """A new folder needs a place in the order above."""
    assert {folder.name for folder in cpp.iterdir() if folder.is_dir()} == {*layers, *module}


def test_layers_include_downward() -> None:
    """Otherwise a layer could not be read, tested, or replaced without those above it."""
    upward = {
        (file.relative_to(cpp).as_posix(), include)
        for level, layer in enumerate(layers)
        for file in sources(layer)
        for include in includes(file)
        if include.partition("/")[0] not in layers[: level + 1]
    }
    assert upward == set()


def test_module_includes_base_and_bridge_only() -> None:
    """More would put a second copy of the library's state into the module."""
    other = {
        (file.name, include)
        for folder in module
        for file in sources(folder)
        for include in includes(file)
        if not python_may_include.match(include)
    }
    assert other == set()


#: Folders of the Python package, from the lowest to the highest. (``runtime`` is beside ``api``: some engines
#: are runtimes themselves.)
python_layers = ["api", "server", "cli"]


def test_python_layers_import_downward() -> None:
    """A program that uses the API must not load the server, nor the server the command."""
    package = cpp.parent / "python" / "dynamo_llm"
    upward = {
        (file.relative_to(package).as_posix(), imported)
        for level, layer in enumerate(python_layers)
        for file in (package / layer).rglob("*.py")
        for imported in re.findall(r"^\s*(?:from|import) dynamo_llm\.(\w+)", file.read_text("utf-8"), re.M)
        if imported in python_layers[level + 1 :]
    }
    upward |= {
        (file.relative_to(package).as_posix(), layer)
        for file in (package / "runtime").rglob("*.py")
        for layer in ("server", "cli")
        if f"dynamo_llm.{layer}" in file.read_text("utf-8")
    }
    assert upward == set()
