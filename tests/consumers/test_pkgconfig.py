# SPDX-License-Identifier: Apache-2.0
"""pkg-config, the copied C++ header, and headers that do not fit the library."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from building import answer, consumers_dir, run, source_dir

ask_c = source_dir / "tests" / "python" / "ask.c"


def flags(pkgconfig: Path, name: str) -> list[str]:
    """What pkg-config says of a library."""
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    result = run(["pkg-config", "--cflags", "--libs", name], {"PKG_CONFIG_PATH": str(pkgconfig)})
    assert result.returncode == 0, result.stderr
    return shlex.split(result.stdout)


@pytest.mark.many(3)
@pytest.mark.parametrize("layout", ["environment", "prefix"])
@pytest.mark.parametrize("name", ["dynamo_llm_capi", "dynamo_llm_capi_static"])
def test_pkgconfig(
    layout: str, name: str, request: pytest.FixtureRequest, compilers: dict[str, str], tmp_path: Path
) -> None:
    """Each library has a file of its own, and both files find their folders from their own."""
    folder = next(request.getfixturevalue(layout).rglob("dynamo_llm_capi.pc")).parent
    program = tmp_path / "ask"
    result = run([compilers["CC"], ask_c, "-o", program, *flags(folder, name)])
    assert result.returncode == 0, result.stderr
    assert answer(program, {"LD_LIBRARY_PATH": str(folder.parent)}) == "hello"
    linked = "libdynamo_llm_capi.so.1" in run(["readelf", "-d", program]).stdout
    assert linked == (name == "dynamo_llm_capi")


def test_copied_header(prefix: Path, compilers: dict[str, str], tmp_path: Path) -> None:
    """dynamo_llm.hpp beside the source, and an installed C library, are enough."""
    include = tmp_path / "include"
    shutil.copytree(prefix / "include", include)
    (include / "dynamo_llm.hpp").rename(tmp_path / "dynamo_llm.hpp")
    shutil.copy(consumers_dir / "cxx" / "ask.cpp", tmp_path)
    libs = ["-std=c++17", f"-I{include}", f"-L{prefix / 'lib'}", "-ldynamo_llm_capi"]
    program = tmp_path / "ask"
    result = run([compilers["CXX"], tmp_path / "ask.cpp", f"-I{tmp_path}", "-o", program, *libs])
    assert result.returncode == 0, result.stderr
    assert answer(program, {"LD_LIBRARY_PATH": str(prefix / "lib")}) == "hello"


@pytest.mark.parametrize(
    ("pattern", "there"),
    [(r'(VERSION_STRING) "[0-9.]+"', r'\1 "1.99.0"'), (r"(ABI_VERSION) 1$", r"\1 2")],
)
def test_header_that_does_not_fit(prefix: Path, pattern: str, there: str, tmp_path: Path) -> None:
    """DYNAMO_LLM_VERSION_CHECK() tells a program of a newer header, and one of another ABI."""
    header, count = re.subn(pattern, there, (prefix / "include" / "dynamo_llm.h").read_text(), flags=re.M)
    assert count == 1
    (tmp_path / "dynamo_llm.h").write_text(header)
    (tmp_path / "check.c").write_text(
        '#include "dynamo_llm.h"\n#include <stdio.h>\nint main(void) {\n'
        "    const int32_t status = DYNAMO_LLM_VERSION_CHECK();\n"
        '    printf("%s %s\\n", dynamo_status_name(status), dynamo_last_error());\n    return 0;\n}\n'
    )
    program = tmp_path / "check"
    libs = [f"-L{prefix / 'lib'}", "-ldynamo_llm_capi"]
    result = run(["gcc", tmp_path / "check.c", "-o", program, *libs])
    assert result.returncode == 0, result.stderr
    said = run([program], {"LD_LIBRARY_PATH": str(prefix / "lib")}).stdout
    assert said.startswith("DYNAMO_ERROR_VERSION_MISMATCH "), said
    assert there.rsplit(maxsplit=1)[1].strip('"') in said
