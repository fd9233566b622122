# SPDX-License-Identifier: Apache-2.0
"""Profiles of engines: what they can do on demand. tests/conformance/profile.hpp has their keys."""

import json
from collections.abc import Iterator
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

#: Engines that take data in place of OpenAI's bodies, of which the cases are made.
of_data = {"dynamo-endpoint"}
#: An engine that can be had and has no profile of its own gets the defaults.
names = sorted(
    {path.stem for path in profiles_dir.glob("*.json")} - {"default"} | (set(registry.names()) - of_data)
)


def profile(name: str) -> dict[str, Any]:
    """A profile, with the defaults."""
    file = profiles_dir / f"{name}.json"
    own = json.loads(file.read_text()) if file.exists() else {"config": {"engine": name}}
    whole: dict[str, Any] = {**defaults, **own}
    for place in whole["config"].get("python", {}).get("path", []):
        assert (folder / place).is_dir(), place
    return whole


@contextmanager
def ready(name: str) -> Iterator[dict[str, Any]]:
    """A profile, and what its engine needs as long as that is used.

    In it "{demo}" is the folder of the demo model, "{server}" the URL of a server of OpenAI's API,
    "{cluster}" the settings of a cluster of NVIDIA Dynamo.
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
    """A cluster with two sample workers; its settings."""
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


def build(into: Path) -> Path:
    """The program, built against the installed package."""
    examples = tests_dir.parent / "examples" / "engines"
    sources = [
        *folder.glob("*.cpp"),
        tests_dir / "c" / "support.c",
        *(examples / name for name in ("babble.c", "json.c", "c/engine.c")),
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
