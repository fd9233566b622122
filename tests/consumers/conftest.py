# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the wheel in a fresh virtual environment, an install tree that was moved, and compilers."""

import os
import shutil
import sys
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from building import build_folder, configure_and_build, run, source_dir
from many import pytest_collection_modifyitems
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["pytest_collection_modifyitems"]


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    make = f"from scikit_build_core.build import build_sdist; print(build_sdist({str(folder)!r}))"
    result = run([sys.executable, "-c", make], cwd=source_dir)
    assert result.returncode == 0, result.stderr
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def build_wheel(source: Path, into: Path) -> Path:
    """Build a wheel with what this environment has.

    The compiler is called as by the preset "release" (depth of the folder, name of the environment), so that
    ccache has the objects.
    """
    environment = source / Path(sys.prefix).name
    if not environment.exists():
        environment.symlink_to(sys.prefix)
    options = ["--no-build-isolation", "--no-deps", "--no-index", f"-Cbuild-dir={source / 'build' / 'wheel'}"]
    python = environment / "bin" / "python"
    command = [
        python,
        "-m",
        "pip",
        "wheel",
        *options,
        "-Ccmake.define.DYNAMO_LLM_WERROR=ON",
        "-w",
        into,
        source,
    ]
    result = run(command, env={"CCACHE_BASEDIR": str(source)})
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = into.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that DYNAMO_LLM_TEST_WHEEL names, or else one built from the source distribution."""
    if name := os.environ.get("DYNAMO_LLM_TEST_WHEEL"):
        return source_dir / name
    return build_wheel(request.getfixturevalue("sdist"), tmp_path_factory.mktemp("wheel"))


def needs(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that requirements without extras name, and of what those need in turn."""
    names: set[str] = set()
    left = list(requirements)
    while left:
        requirement = Requirement(left.pop())
        name = canonicalize_name(requirement.name)
        if name not in names and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            names.add(name)
            left += metadata.requires(name) or []
    return names


def borrow(environment: Path, names: Iterable[str]) -> None:
    """Link distributions of the tests' own environment into another one, as there may be no network."""
    (target,) = environment.glob("lib/python3*/site-packages")
    for name in names:
        files = metadata.files(name)
        assert files is not None
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            here = Path(str(metadata.distribution(name).locate_file(top)))
            if not (target / top).exists():
                (target / top).symlink_to(here)


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel, its dependencies, and scikit-build-core."""
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    venv.create(folder, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    result = run([*command, "--no-index", "--no-deps", wheel])
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = folder.glob("lib/python3*/site-packages/dynamo_llm-*.dist-info")
    borrow(folder, needs([*(metadata.Distribution.at(file).requires or []), "scikit-build-core"]))
    return folder


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cmake --install made, moved to a folder with a blank in its name."""
    build = build_folder()
    if "DYNAMO_LLM_TEST_BUILD" not in os.environ:
        options = [f"-DPython_EXECUTABLE={sys.executable}", "-DDYNAMO_LLM_WERROR=ON"]
        configure_and_build(source_dir, build, *options)
    folder = tmp_path_factory.mktemp("prefix")
    result = run(["cmake", "--install", build, "--prefix", folder / "before"])
    assert result.returncode == 0, result.stderr
    (folder / "before").rename(folder / "moved here")
    return folder / "moved here"


@pytest.fixture(params=["gcc", "clang"])
def compilers(request: pytest.FixtureRequest) -> dict[str, str]:
    """CC and CXX of an environment."""
    cc = request.param
    cxx = {"gcc": "g++", "clang": "clang++"}[cc]
    if shutil.which(cc) is None or shutil.which(cxx) is None:
        pytest.skip(f"{cc} is not installed")
    return {"CC": cc, "CXX": cxx, "PATH": os.environ["PATH"]}
