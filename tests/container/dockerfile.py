# SPDX-License-Identifier: Apache-2.0
"""Reads the Dockerfile: the part of the language that it uses, and no more."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

top = Path(__file__).resolve().parent.parent.parent
path = top / "container" / "Dockerfile"


@dataclass(frozen=True)
class Copy:
    """COPY: from the source tree, or from another stage."""

    sources: tuple[str, ...]
    target: str
    stage: str | None

    def inside(self, source: str) -> PurePosixPath:
        """Where a file comes to lie; the contents of a folder come to lie in the target."""
        target = PurePosixPath(self.target)
        return target / PurePosixPath(source).name if self.target.endswith("/") else target


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    steps: list[Copy | list[str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)


def words(rest: str) -> list[str]:
    """The words of an instruction in its JSON form."""
    value = json.loads(rest)
    assert isinstance(value, list) and all(isinstance(word, str) for word in value), rest
    return value


def parse(text: str) -> dict[str, Stage]:
    """The stages by name, in their order."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in text.split("\n") if not line.startswith("#")))
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in filter(None, map(str.strip, text.split("\n"))):
        instruction, _, rest = line.partition(" ")
        if instruction == "ARG" and stage is None:
            name, _, default = rest.partition("=")
            arguments[name] = default
            continue
        if instruction == "FROM":
            base, keyword, name = rest.split()
            assert keyword == "AS", line
            assert name not in stages, f"two stages are named {name}"
            base = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base)
            stage = stages[name] = Stage(name, base)
            continue
        assert stage is not None, f"before the first FROM: {line}"
        match instruction:
            case "COPY":
                *sources, target = rest.split()
                origin = None
                if sources[0].startswith("--from="):
                    origin = sources.pop(0).removeprefix("--from=")
                assert len(sources) == 1 or target.endswith("/"), f"several sources need a folder: {line}"
                stage.steps.append(Copy(tuple(sources), target, origin))
            case "RUN":
                assert not re.search(r"[|&;<>$`]", rest), f"what takes a shell belongs in a script: {line}"
                stage.steps.append(shlex.split(rest))
            case "ENV":
                stage.env |= dict(word.split("=", 1) for word in shlex.split(rest))
            case "USER":
                stage.user = rest
            case "ENTRYPOINT":
                stage.entrypoint = words(rest)
            case "CMD":
                stage.command = words(rest)
            case "VOLUME":
                stage.volumes += rest.split()
            case "EXPOSE":
                stage.ports += rest.split()
            case _:
                raise AssertionError(f"these tests do not know {instruction}: {line}")
    return stages
