# SPDX-License-Identifier: Apache-2.0
"""What can be told of the Dockerfile and of compose.yaml by reading them."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path, PurePosixPath

import compose
import dockerfile
import pytest
from dockerfile import Copy, Stage, top

folder = dockerfile.path.parent
stages = dockerfile.parse(dockerfile.path.read_text())
services, says = compose.parse(compose.path.read_text(), stages)
images = [stages[name] for name in dict.fromkeys(service.stage.name for service in services.values())]
pinned = sorted(folder.glob("*.txt"))
scripts = sorted(folder.glob("*.sh"))


def name_of(thing: Stage | Path) -> str:
    return thing.name


@pytest.mark.parametrize("stage", stages.values(), ids=name_of)
def test_stage(stage: Stage) -> None:
    """It is on the one base, and copies what there is, before a step uses it."""
    assert stage.base == "debian:bookworm-slim"
    earlier = list(stages)[: list(stages).index(stage.name)]
    inside = set()
    for step in stage.steps:
        if isinstance(step, Copy):
            inside |= {str(step.inside(source)) for source in step.sources}
            if step.stage is not None:
                assert step.stage in earlier, f"{step.stage} is not a stage before {stage.name}"
                assert step.target in made_in(stages[step.stage]), f"{step.stage} does not make {step.target}"
                continue
            for source in step.sources:
                assert (top / source).exists(), f"{source} is copied, but not in the repository"
        else:
            assert step[0] in inside, f"{step[0]} is run, but was not copied"
            assert os.access(folder / PurePosixPath(step[0]).name, os.X_OK), f"{step[0]} cannot be run"


def made_in(stage: Stage) -> set[str]:
    """What a stage's scripts are told to work on."""
    return {word for step in stage.steps if not isinstance(step, Copy) for word in step[1:]}


def test_nothing_is_left_over() -> None:
    """Each file of the folder is used by a stage, each stage by a service or by a stage."""
    copied = {
        source for stage in stages.values() for step in stage.steps for source in getattr(step, "sources", ())
    }
    for file in folder.iterdir():
        assert file in (dockerfile.path, compose.path) or f"container/{file.name}" in copied, file
    origins = {getattr(step, "stage", None) for stage in stages.values() for step in stage.steps}
    assert stages.keys() <= origins | {image.name for image in images}


@pytest.mark.parametrize("stage", images, ids=name_of)
def test_image(stage: Stage) -> None:
    """It runs as a user who owns nothing, without a shell in between, and without the tools of its build."""
    assert stage.user == "10001:10001"
    assert stage.entrypoint
    (installed,) = [step for step in stage.steps if not isinstance(step, Copy)]
    assert installed[0] == "/container/runtime.sh"
    assert not {"g++", "gcc", "python3-venv", "python3-pip", "python3-dev"} & set(installed)


@pytest.mark.parametrize("service", services.values(), ids=lambda service: service.name)
def test_service(service: compose.Service) -> None:
    """It is built from here, confined, and shown to this machine alone."""
    told = service.says
    build = told["build"]
    assert (folder / build["context"]).resolve() == top
    assert top / build["dockerfile"] == dockerfile.path
    assert told["user"] == service.stage.user
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert not told.keys() & {"privileged", "cap_add", "devices", "pid", "ipc", "env_file"}
    assert told.get("network_mode", "none") == "none"  # never the machine's own
    assert all(re.search(r":.*size=\d+m", entry) for entry in told["tmpfs"]), "a tmpfs wants a size"

    for port in told.get("ports", []):
        published = re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port)
        assert published, f"{port}: write 127.0.0.1:PORT:PORT, so that no other machine reaches it"
        assert published[2] in service.stage.ports, f"{port}: the image does not expose {published[2]}"
    for volume in told.get("volumes", []):
        name, target = volume.split(":")
        assert name in says["volumes"], (
            f"{volume}: the file declares no such volume, and a folder is not wanted"
        )
        assert target in service.stage.volumes
    for name, condition in told.get("depends_on", {}).items():
        assert name in services
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in services[name].says
    for value in told.get("environment", {}).values():
        for host in re.findall(r"https?://([^:/]+)", value):
            assert host in services, f"{host} is not a service"
    if told.get("ports"):
        assert service.health
        assert told["healthcheck"].keys() >= {"interval", "timeout", "retries", "start_period"}


def test_compose_is_whole() -> None:
    """Each volume is used, images have tags of their own that say a version, ports do not collide."""
    used = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.says.get("volumes", [])
    }
    assert used == says["volumes"].keys()
    header = (top / "include" / "dynamo_llm.h").read_text()
    version = re.search(r'DYNAMO_LLM_VERSION_STRING "(.+?)"', header)
    assert version is not None
    frontend = re.search(r"^ai-dynamo==(.+)$", (folder / "frontend.txt").read_text(), re.M)
    assert frontend is not None
    assert {service.says["image"] for service in services.values()} == {
        f"dynamo-llm:{version[1]}",
        f"dynamo-llm-etcd:{version[1]}",
        f"dynamo-frontend:{frontend[1]}",
    }
    ports = Counter(port for service in services.values() for port in service.says.get("ports", []))
    assert all(count == 1 for count in ports.values()), ports


@pytest.mark.parametrize("file", pinned, ids=name_of)
def test_pins(file: Path) -> None:
    """Each line names one release of one package, once; all are in order."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==\d+(\.\d+)+", line), f"{file.name}: {line} is not pinned"
    names = [re.split("==", line)[0].lower().replace("_", "-") for line in lines]
    assert names == sorted(set(names))


def test_everything_that_the_package_needs_is_pinned() -> None:
    """What pyproject.toml names has a line in constraints.txt."""
    text = (top / "pyproject.toml").read_text()
    lists = [re.search(rf"^{name} = \[(.*?)\]$", text, re.M | re.S) for name in ("requires", "dependencies")]
    wanted = {name for found in lists if found for name in re.findall(r'"([A-Za-z0-9_-]+)[^"]*"', found[1])}
    assert len(wanted) > 4
    pins = set(re.findall(r"^([\w-]+)==", (folder / "constraints.txt").read_text(), re.M))
    assert wanted <= pins, f"without a version in constraints.txt: {wanted - pins}"


@pytest.mark.parametrize("script", scripts, ids=name_of)
def test_script(script: Path) -> None:
    """It is valid, stops at the first failure, and says what it is called with."""
    text = script.read_text()
    assert text.startswith(f"#!/bin/sh\n# {script.name} "), "its first line of comment is its usage"
    assert "\nset -eu\n" in text
    subprocess.run(["sh", "-n", script], check=True, timeout=10)


@pytest.mark.parametrize("file", sorted(folder.iterdir()), ids=name_of)
def test_no_secrets(file: Path) -> None:
    """No secret, which an image or its history would keep; no address but of this machine and of services."""
    text = file.read_text()
    found = re.search(
        r"(?i)passw(?!ords)|secret|token(?!izers)|api.?key|credential|BEGIN [A-Z ]*PRIVATE KEY", text
    )
    assert not found, f"{file.name}: {found[0] if found else ''}"
    hosts = set(re.findall(r"https?://([^:/\s\"']+)", text))
    assert hosts <= {"127.0.0.1", "0.0.0.0", *services}
