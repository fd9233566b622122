# SPDX-License-Identifier: Apache-2.0
"""The vcpkg port. vcpkg itself is on no package index, so ``run_port.cmake`` runs the portfile, with
functions that do what vcpkg's documentation says.
"""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
from building import answer, configure_and_build, consumers_dir, long_build, run, source_dir

port = source_dir / "packaging" / "vcpkg" / "dynamo-llm"


def test_manifest() -> None:
    """It has the version of the library, and the packages whose functions the portfile calls."""
    manifest = json.loads((port / "vcpkg.json").read_text())
    header = (source_dir / "include" / "dynamo_llm.h").read_text()
    version = re.search(r'VERSION_STRING "(.*)"', header)
    assert version is not None and manifest["version"] == version[1]
    assert manifest["name"] == port.name
    assert {one["name"] for one in manifest["dependencies"]} == {
        "nlohmann-json",
        "vcpkg-cmake",
        "vcpkg-cmake-config",
    }


@pytest.mark.slow
def test_port(tmp_path: Path) -> None:
    """Each kind of triplet gets one kind of library, which programs in C and C++ find."""
    spec = importlib.util.find_spec("nlohmann_json")
    assert spec is not None and spec.origin is not None
    shutil.copytree(Path(spec.origin).parent / "include", tmp_path / "installed" / "include")
    for linkage, component, library, other in (
        ("static", "capi_static", "libdynamo_llm_capi.a", "libdynamo_llm_capi.so.1"),
        ("dynamic", "capi", "libdynamo_llm_capi.so.1", "libdynamo_llm_capi.a"),
    ):
        package = tmp_path / "packages" / "dynamo-llm"
        shutil.rmtree(package, ignore_errors=True)
        script = consumers_dir / "vcpkg" / "run_port.cmake"
        defined = {"PORT_DIR": port, "ROOT": tmp_path, "VCPKG_LIBRARY_LINKAGE": linkage}
        options = [f"-D{name}={value}" for name, value in defined.items()]
        result = run(
            ["cmake", *options, "-P", script], {"CCACHE_BASEDIR": str(source_dir)}, timeout=long_build
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert (package / "lib" / library).exists() and not (package / "lib" / other).exists()
        assert (package / "include" / "dynamo_llm.hpp").is_file()
        assert "Apache License" in (package / "share" / "dynamo-llm" / "copyright").read_text()
        assert (package / "share" / "dynamo-llm" / "usage").is_file()
        hint = f"-DCMAKE_PREFIX_PATH={package}"
        for project, components in (("c", component), ("cxx", f"{component};cxx")):
            build = tmp_path / linkage / project
            configure_and_build(consumers_dir / project, build, hint, f"-DCOMPONENTS={components}")
            assert answer(build / "consumer") == "hello"
