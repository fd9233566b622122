# SPDX-License-Identifier: Apache-2.0
"""The Conan recipe: ``conan create`` in a cache of its own, without a remote."""

import json
import re
from pathlib import Path

import pytest
from building import consumers_dir, long_build, run, source_dir

pytest.importorskip("conan", reason="Conan is not installed: python -m pip install 'conan>=2.20,<3'")


@pytest.mark.slow
def test_conan_create(tmp_path: Path) -> None:
    """The recipe builds the library from the clone, and its test package runs programs in C and C++."""
    env = {"CONAN_HOME": str(tmp_path / "home"), "CCACHE_BASEDIR": str(tmp_path)}

    def done(*words: str | Path) -> str:
        result = run(["conan", *words], env, timeout=long_build)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    done("profile", "detect")
    done("remote", "disable", "*")
    done("create", consumers_dir / "conan" / "nlohmann_json")
    recipe = source_dir / "packaging" / "conan"
    settings = [
        "--conf:all=tools.cmake.cmake_layout:test_folder=$TMP",  # not into the source
        "--conf:all=tools.cmake.cmaketoolchain:generator=Ninja",
        "--conf:all=tools.cmake.cmaketoolchain:extra_variables={'CMAKE_UNITY_BUILD': 'ON'}",
    ]
    created = json.loads(done("create", recipe, *settings, "--format=json"))
    (package,) = (
        node
        for node in created["graph"]["nodes"].values()
        if (node["ref"] or "").startswith("dynamo-llm/") and node["package_folder"]
    )
    folder = Path(package["package_folder"])
    header = (folder / "include" / "dynamo_llm.h").read_text()
    version = re.search(r'VERSION_STRING "(.*)"', header)
    assert version is not None and package["version"] == version[1]
    for name in (
        "include/dynamo_llm.hpp",
        "include/dynamo_llm/engine.h",
        "lib/libdynamo_llm_capi.so.1",
        "lib/libdynamo_llm_capi.a",
        "lib/cmake/DynamoLLM/DynamoLLMConfig.cmake",
        "lib/pkgconfig/dynamo_llm_capi.pc",
        "licenses/LICENSE",
        "licenses/THIRD_PARTY_NOTICES.txt",
    ):
        assert (folder / name).is_file(), name
    assert not list(folder.rglob("_core*"))
