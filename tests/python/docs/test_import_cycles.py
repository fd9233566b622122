# SPDX-License-Identifier: Apache-2.0
"""No module of the Python package imports itself through others, not even for types."""

import ast
import graphlib
from pathlib import Path

python = Path(__file__).resolve().parents[3] / "python"


def module_name(file: Path) -> str:
    """Returns the name that imports a file."""
    return ".".join(file.relative_to(python).with_suffix("").parts).removesuffix(".__init__")


modules = {module_name(file): file for file in sorted((python / "dynamo_llm").rglob("*.py"))}


def imports(node: ast.AST) -> set[str]:
    """Returns the modules of the package that a module imports when it is loaded or checked for types.

    An import in a function is deferred and does not count.
    """
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            names = {f"{child.module}.{alias.name}" for alias in child.names}
            # A name of the top package is one of the C++ module, or set before its own imports.
            found |= {name if name in modules else str(child.module) for name in names} - {"dynamo_llm"}
        elif isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= imports(child)
    return found & modules.keys()


def test_no_import_cycles() -> None:
    """A cycle could not be read from one end, and its modules could not be tested alone."""
    graph = {name: imports(ast.parse(file.read_bytes())) for name, file in modules.items()}
    assert sum(map(len, graph.values())) > len(modules)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None
