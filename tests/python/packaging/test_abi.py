# SPDX-License-Identifier: Apache-2.0
"""The binary interface is that of the first release, and programs of that release run."""

import importlib.util
import platform
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from conftest import compile_c, dynamo_config, run, tests_dir
from reliability import reliability

abi_dir = tests_dir / "abi"
include = tests_dir.parent / "include"

needs_libabigail = pytest.mark.skipif(
    shutil.which("abidiff") is None or platform.machine() not in ("x86_64", "aarch64"),
    reason="needs libabigail (Debian's abigail-tools), on 64-bit Linux",
)


@pytest.fixture(scope="module")
def abi() -> ModuleType:
    """The script abi.py."""
    spec = importlib.util.spec_from_file_location("abi", abi_dir / "abi.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_libabigail
def test_interface_is_the_released_one(abi: ModuleType) -> None:
    assert abi.complaint(include) == ""


changes = {
    "a function goes": ("dynamo_llm.h", "DYNAMO_LLM_API void dynamo_free(void *pointer);", "", "dynamo_free"),
    "a parameter's type changes": (
        "dynamo_llm.h",
        "dynamo_runtime_shutdown(dynamo_runtime_t *runtime, int64_t timeout_ms)",
        "dynamo_runtime_shutdown(dynamo_runtime_t *runtime, int32_t timeout_ms)",
        "parameter 2",
    ),
    "a status gets another number": (
        "dynamo_llm.h",
        "DYNAMO_ERROR_FORKED = -19",
        "DYNAMO_ERROR_FORKED = -99",
        "-99",
    ),
    "a member moves": (
        "dynamo_llm/engine.h",
        "uint32_t index;",
        "uint64_t index;",
        "dynamo_chunk_t",
    ),
    "a callback's type changes": (
        "dynamo_llm.h",
        "(*dynamo_ready_callback_t)(void *user)",
        "(*dynamo_ready_callback_t)(void *user, int why)",
        "dynamo_ready_callback_t",
    ),
}


@needs_libabigail
@pytest.mark.parametrize("change", changes)
def test_a_change_is_found(abi: ModuleType, change: str, tmp_path: Path) -> None:
    """Nothing that exists may change."""
    name, old, new, told = changes[change]
    shutil.copytree(include, tmp_path / "include")
    header = tmp_path / "include" / name
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))
    complaint = abi.complaint(tmp_path / "include")
    assert "What was released has changed" in complaint and told in complaint, complaint


@needs_libabigail
def test_an_addition_is_not_a_change(abi: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(include, tmp_path / "include")
    header = tmp_path / "include" / "dynamo_llm.h"
    old = "DYNAMO_LLM_API uint32_t dynamo_abi_version(void);"
    header.write_text(header.read_text().replace(old, old + "\nDYNAMO_LLM_API int dynamo_new(void);"))
    complaint = abi.complaint(tmp_path / "include")
    assert "Functions were added" in complaint and "dynamo_new" in complaint, complaint


def test_a_program_of_the_first_headers_runs(tmp_path: Path) -> None:
    flags = dynamo_config("--libs").split()
    program = compile_c(abi_dir / "program.c", tmp_path / "program", f"-I{abi_dir / 'first'}", *flags)
    result = run([program], env={"DYNAMO_LLM_PYTHON": "none"})
    assert (result.returncode, result.stdout) == (0, "works\n"), result.stderr
    reliability(
        "a program that was built with the first headers of this ABI", 1, "each struct and status is right"
    )


def structs_of(folder: Path) -> dict[str, str]:
    """Returns the public structs of the headers in a folder, each with its members."""
    text = "\n".join(file.read_text() for file in sorted(folder.rglob("*.h")))
    return {
        name: members
        for members, name in re.findall(r"^typedef struct \w+ \{(.*?)^\} (\w+);", text, re.M | re.S)
    }


def test_every_struct_that_grows_has_its_first_size() -> None:
    """cpp/base/structs.hpp has the size up to the last member in the first headers."""
    text = (tests_dir.parent / "cpp" / "base" / "structs.hpp").read_text()
    sizes = dict(re.findall(r"^DYNAMO_FIRST_RELEASED\((\w+), (\w+)\);", text, re.M))
    arrays = {"dynamo_push_t", "dynamo_kv_event_t"}  # functions get the size of their elements
    filled = {"dynamo_creation_event_t"}  # by the library, whole
    structs = structs_of(include)
    grow = {name for name, members in structs.items() if "struct_size;" in members}
    assert sizes.keys() == (grow | arrays) - filled
    first = structs_of(abi_dir / "first")
    for name, last in sizes.items():
        assert name not in first or re.search(rf"\b{last}\b", first[name]), (name, last)
