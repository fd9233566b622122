# SPDX-License-Identifier: Apache-2.0
"""The conda recipe: rattler-build renders it without a channel, and its commands run with the tools of this
machine. A build by rattler-build itself would need packages of a channel.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from building import fast_build, long_build, run, source_dir

recipe = source_dir / "packaging" / "conda" / "recipe.yaml"


def read() -> dict[str, Any]:
    recipe_text: dict[str, Any] = yaml.safe_load(recipe.read_text())
    return recipe_text


def test_version() -> None:
    """It is the version of the library."""
    header = (source_dir / "include" / "dynamo_llm.h").read_text()
    version = re.search(r'VERSION_STRING "(.*)"', header)
    assert version is not None and read()["context"]["version"] == version[1]


def test_rattler_build_renders_it() -> None:
    """The recipe is valid: keys, expressions, and requirements."""
    rattler_build = pytest.importorskip(
        "rattler_build", reason="rattler-build is not installed: python -m pip install py-rattler-build"
    )
    from rattler_build.render import RenderConfig
    from rattler_build.tool_config import PlatformConfig

    # As conda-forge pins them.
    variants = rattler_build.VariantConfig.from_yaml("c_stdlib: [sysroot]\nc_stdlib_version: ['2.28']\n")
    platform = RenderConfig(platform=PlatformConfig(target_platform="linux-64"))
    (rendered,) = rattler_build.Stage0Recipe.from_file(recipe).render(variants, platform)
    assert (str(rendered.recipe.package.name), str(rendered.recipe.package.version)) == (
        "dynamo-llm",
        read()["context"]["version"],
    )


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    """The recipe's source filter, its build script, and its test script, with this machine's tools."""
    text = read()
    source, prefix, test = tmp_path / "source", tmp_path / "prefix", tmp_path / "test"
    for pattern in text["source"]["filter"]:
        for file in source_dir.glob(f"{pattern}/*" if pattern.endswith("**") else pattern):
            if file.is_file():
                target = source / file.relative_to(source_dir)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
    include = run(
        [sys.executable, "-c", "import nlohmann_json as n, pathlib; print(pathlib.Path(n.__file__).parent)"]
    )
    arguments = f"-DNLOHMANN_JSON_INCLUDE_DIR={include.stdout.strip()}/include {' '.join(fast_build)}"
    env = {"PREFIX": str(prefix), "CMAKE_ARGS": arguments, "CPU_COUNT": "2", "CCACHE_BASEDIR": str(source)}
    contents, script = text["tests"]
    shutil.copytree(source / script["files"]["source"][0], test / script["files"]["source"][0])
    for folder, commands in ((source, text["build"]["script"]), (test, script["script"])):
        result = run(["bash", "-euc", "\n".join(commands)], env, cwd=folder, timeout=long_build)
        assert result.returncode == 0, result.stdout + result.stderr
    for name in contents["package_contents"]["files"]:
        assert (prefix / name).is_file(), name
