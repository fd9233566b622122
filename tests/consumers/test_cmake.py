# SPDX-License-Identifier: Apache-2.0
"""find_package(DynamoLLM): from the wheel, from a moved install tree, and as a subdirectory."""

import sys
from pathlib import Path

import pytest
from building import answer, configure, configure_and_build, consumers_dir, run, source_dir


@pytest.fixture(params=["environment", "prefix"])
def hint(request: pytest.FixtureRequest) -> str:
    """The option that says where the package is."""
    place = request.getfixturevalue(request.param)
    if request.param == "prefix":
        return f"-DCMAKE_PREFIX_PATH={place}"
    found = run([place / "bin" / "python", "-m", "dynamo_llm", "--cmakedir"])
    assert found.returncode == 0, found.stderr
    return f"-DDynamoLLM_DIR={found.stdout.strip()}"


@pytest.mark.many(3)
@pytest.mark.parametrize("component", ["capi", "capi_static"])
def test_c(hint: str, component: str, compilers: dict[str, str], tmp_path: Path) -> None:
    """A project of the one language C links either library; CMake runs no Python for it."""
    options = [hint, f"-DCOMPONENTS={component}"]
    said = configure_and_build(consumers_dir / "c", tmp_path, *options, env=compilers)
    assert "Python" not in said
    assert answer(tmp_path / "consumer") == "hello"
    needed = run(["readelf", "-d", tmp_path / "consumer"]).stdout
    assert ("libdynamo_llm_capi.so.1" in needed) == (component == "capi")


@pytest.mark.many(3)
@pytest.mark.parametrize("components", ["cxx", "capi_static;cxx"])
def test_cxx(hint: str, components: str, compilers: dict[str, str], tmp_path: Path) -> None:
    """A project of the one language C++ uses the wrapper, on the library that it asked for."""
    options = [hint, f"-DCOMPONENTS={components}"]
    configure_and_build(consumers_dir / "cxx", tmp_path, *options, env=compilers)
    assert answer(tmp_path / "consumer") == "hello"
    needed = run(["readelf", "-d", tmp_path / "consumer"]).stdout
    assert ("libdynamo_llm_capi.so.1" in needed) == (components == "cxx")


def test_demo_model(environment: Path, prefix: Path, tmp_path: Path) -> None:
    """Programs of both layouts run the demo model."""
    for name, root, python in (
        ("wheel", environment / "lib", None),
        ("prefix", prefix, sys.executable),
    ):
        folder = next(root.rglob("DynamoLLMConfig.cmake")).parent
        configure_and_build(consumers_dir / "c", tmp_path / name, f"-DDynamoLLM_DIR={folder}")
        env = {"DYNAMO_LLM_PYTHON": python} if python else {}
        assert len(answer(tmp_path / name / "consumer", env, "{}", "What is a KV cache?")) > 10


def test_package_has_no_absolute_paths(prefix: Path) -> None:
    """Nothing that build systems read names the folder of the build or of the first installation."""
    for file in [*prefix.rglob("*.cmake"), *prefix.rglob("*.pc")]:
        assert str(source_dir) not in file.read_text(), file
        assert str(prefix.parent) not in file.read_text(), file


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-DVERSION_WANTED=2", 'compatible with requested version "2"'),
        ("-DVERSION_WANTED=1.99", 'compatible with requested version "1.99"'),
        ("-DCOMPONENTS=capi;gpu", 'no component "gpu"; there are: capi, capi_static, cxx'),
    ],
)
def test_wrong_wishes(prefix: Path, option: str, message: str, tmp_path: Path) -> None:
    """A version or a component that does not exist is named, with what does."""
    result = configure(consumers_dir / "c", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}", option)
    assert result.returncode != 0
    said = " ".join(result.stderr.split())
    assert message in said
    assert "version: 1." in said or "there are" in said


@pytest.mark.slow
def test_subproject(tmp_path: Path) -> None:
    """A parent in C gets both libraries, and no tests, kind of build, Python or installation of ours."""
    build = tmp_path / "build"
    options = [f"-DDYNAMO_LLM_SOURCE={source_dir}", f"-DPython_EXECUTABLE={sys.executable}"]
    configure_and_build(consumers_dir / "subproject", build, *options, env={"CCACHE_BASEDIR": str(tmp_path)})
    assert [answer(build / name) for name in ("shared", "static")] == ["hello", "hello"]
    assert "Total Tests: 0" in run(["ctest", "--test-dir", build, "-N"]).stdout
    assert "CMAKE_BUILD_TYPE:STRING=\n" in (build / "CMakeCache.txt").read_text()
    assert not list(build.rglob("_core*"))
    installed = tmp_path / "installed"
    assert run(["cmake", "--install", build, "--prefix", installed]).returncode == 0
    assert [file.name for file in installed.rglob("*") if file.is_file()] == ["shared"]
