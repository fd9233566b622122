# SPDX-License-Identifier: Apache-2.0
"""The conformance suite, built against the installed package, on every available engine.

The program prints a table of the cases that ran or were skipped: pytest -rA shows it.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import conforming
import pytest
from conftest import engine, once_per_run, run

#: Seconds that the whole suite may take on one engine, its starts included; the program bounds each case.
patience = 900


@pytest.fixture(scope="session")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return once_per_run(tmp_path_factory, "conformance", conforming.build)


def test_profiles_name_their_engines() -> None:
    for name in conforming.names:
        assert conforming.profile(name)["config"]["engine"], name


@pytest.fixture(scope="session")
def engines_in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared library with engines in C."""
    return once_per_run(tmp_path_factory, "engines", conforming.build_engines)


@pytest.mark.parametrize("name", conforming.parameters([*conforming.names, *conforming.in_child]))
def test_engine(name: str, conformance: Path, engines_in_c: Path, tmp_path: Path) -> None:
    """Every case, in every delivery mode; also for engines in a child process."""
    file = tmp_path / "profile.json"
    with conforming.ready(name) as profile:
        if name in conforming.in_child and name.startswith("babble"):
            profile["config"]["isolation_options"] = {"engine_library": str(engines_in_c)}
        file.write_text(json.dumps(profile))
        result = subprocess.run(
            [conformance, file],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
            cwd=conforming.folder,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    if result.returncode == 4:
        pytest.skip(result.stderr.strip())
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 failed" in result.stdout


# ------------------------------------------------------------------------ the suite itself can fail


def broken(how: str, **profile: Any) -> dict[str, Any]:
    """The profile of an engine that does something wrong."""
    config = engine("wrong:Wrong", options={"how": how})
    return {
        **json.loads((conforming.profiles_dir / "python-async.json").read_text()),
        "config": config,
        **profile,
    }


@pytest.mark.parametrize(
    ("how", "case", "says"),
    [
        ("loses", "long answer", "the text is"),
        ("reorders", "long answer", "the text is"),
        ("miscounts", "max_tokens", "the answer has not 5 tokens"),
        ("runs on", "max_tokens", "the answer has not 5 tokens"),
        ("forgets usage", "usage", "there are no token counts"),
        ("swallows errors", "fails after", "the terminal event is"),
        ("mixes", "64 at once", "the text is"),
    ],
)
def test_wrong_engine_is_found(how: str, case: str, says: str, conformance: Path, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(broken(how)))
    result = run([conformance, file, case])
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"FAILED: {case}" in result.stdout
    assert says in result.stdout


def test_wrong_profile_is_found(conformance: Path, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    for profile, says in (
        ({"config": {"engine": "echo"}, "shirt": {}}, 'has a key "shirt"'),
        ({"config": {"engine": "echo"}, "long": "none"}, 'needs an object "long"'),
        ({"config": {"engine": "ecko"}}, 'did you mean "echo"?'),
    ):
        file.write_text(json.dumps(profile))
        result = run([conformance, file])
        assert (result.returncode, result.stdout) == (2, "")
        assert says in result.stderr
