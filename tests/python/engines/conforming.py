# SPDX-License-Identifier: Apache-2.0
"""Reads the profiles of engines, which declare what the engines can do. tests/conformance/profile.hpp lists
the keys.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nlohmann_json
import openai_server
import pytest
from cluster_rig import Cluster, Combination
from conftest import dynamo_config, run, tests_dir
from dynamo_llm import paths
from dynamo_llm.runtime import registry

folder = tests_dir / "conformance"
profiles_dir = folder / "profiles"
defaults: dict[str, Any] = json.loads((profiles_dir / "default.json").read_text())

#: Raw engines, which the cases, made of OpenAI's bodies, do not apply to.
of_data = {"dynamo-endpoint"}
#: An available engine without its own profile gets the defaults.
names = sorted(
    {path.stem for path in profiles_dir.glob("*.json")} - {"default"} | (set(registry.names()) - of_data)
)

#: Suffix of the name of an engine that runs in a child process.
isolated = "-isolated"
#: Engines for which the suite is also run in a child process: one of each kind.
in_child = [
    name + isolated
    for name in (
        "babble-c",
        "babble-tokens",
        "echo",
        "mistralrs",
        "openai",
        "python-async",
        "python-threaded",
        "python-tokens",
        "scripted",
        "transformers",
    )
]


#: Engines for which the quick tests run the suite: one in Python, one token-level engine, and one in a child
#: process. CTest runs it on native engines.
quick = {"python-async", "python-tokens", "python-async-isolated"}


def parameters(names: Iterable[str]) -> list[Any]:
    """Returns parameters of a test; engines that are not quick are marked slow."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


def profile(name: str) -> dict[str, Any]:
    """Returns a profile, with the defaults."""
    is_isolated = name.endswith(isolated)
    name = name.removesuffix(isolated)
    file = profiles_dir / f"{name}.json"
    own = json.loads(file.read_text()) if file.exists() else {"config": {"engine": name}}
    whole: dict[str, Any] = {**defaults, **own}
    if is_isolated:
        whole["config"] |= {"isolation": "process"}
        whole["refused"] = "an engine in a child process takes every request, and fails it then"
    for place in whole["config"].get("python", {}).get("path", []):
        assert (folder / place).is_dir(), place
    return whole


@contextmanager
def ready(name: str) -> Iterator[dict[str, Any]]:
    """Yields a profile, and provides what its engine needs during the block.

    In the profile, "{demo}" is replaced by the folder of the demo model, "{server}" by the URL of a server of
    OpenAI's API, and "{cluster}" by the settings of an NVIDIA Dynamo cluster.
    """
    text = json.dumps(profile(name)).replace("{demo}", str(paths.demo_model_dir()))
    if "{server}" in text:
        with openai_server.serve() as url:
            yield json.loads(text.replace("{server}", url))
    elif "{cluster}" in text:
        with a_cluster() as settings:
            yield json.loads(text.replace('"{cluster}"', json.dumps(settings)))
    else:
        yield json.loads(text)


@contextmanager
def a_cluster() -> Iterator[dict[str, Any]]:
    """Runs a cluster with two sample workers. Yields its settings."""
    combination = Combination.parse("file-tcp-zmq")
    if missing := combination.missing():
        pytest.skip(f"a cluster needs {' and '.join(missing)}")
    with TemporaryDirectory() as place:
        made = Cluster(combination, Path(place))
        try:
            for _ in range(2):
                made.add_worker(0.001)
            yield made.settings
        finally:
            made.stop()


def build_engines(into: Path) -> Path:
    """Builds the example engines in C as a shared library, which child processes open."""
    examples = tests_dir.parent / "examples" / "engines"
    sources = [
        tests_dir / "engines" / "babble.c",
        *(examples / name for name in ("babble.c", "c/engine.c")),
    ]
    library = into / "libbabble.so"
    flags = dynamo_config("--cflags", "--libs").split()
    options = ["-shared", "-fPIC", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{examples / 'c'}"]
    result = run(["gcc", *options, *sources, "-o", library, *flags])
    assert result.returncode == 0, result.stderr
    return library


def build(into: Path) -> Path:
    """Builds the program against the installed package."""
    examples = tests_dir.parent / "examples" / "engines"
    sources = [
        *folder.glob("*.cpp"),
        tests_dir / "c" / "support.c",
        *(examples / name for name in ("babble.c", "c/engine.c")),
    ]
    include = Path(nlohmann_json.__file__).parent / "include"
    flags = dynamo_config("--cflags").split()

    def compile_one(source: Path) -> Path:
        target = into / f"{source.parent.name}-{source.stem}.o"
        cxx = ["g++", "-std=c++20", "-isystem", include, f'-DCONFORMANCE_PROFILES="{profiles_dir}"']
        compiler = cxx if source.suffix == ".cpp" else ["gcc", "-D_GNU_SOURCE"]
        result = run([*compiler, "-Wall", "-Wextra", "-Werror", *flags, "-c", source, "-o", target])
        assert result.returncode == 0, result.stderr
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    program = into / "conformance"
    libraries = dynamo_config("--libs").split()
    result = run(["g++", "-pthread", *objects, "-o", program, *libraries])
    assert result.returncode == 0, result.stderr
    return program
