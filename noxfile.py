# SPDX-License-Identifier: Apache-2.0
"""The steps of scripts/test under the names that nox shows: ``nox -l``, ``nox -s lint``."""

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "tests", "docs"]


def steps(session: nox.Session, *names: str) -> None:
    """Run steps of scripts/test."""
    session.run("scripts/test", *names, *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatters and linters."""
    steps(session, "lint")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests of the library, the package, and the projects that use them, on this Python."""
    steps(session, "build", "package", "consumers")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, warnings being errors."""
    steps(session, "docs")


@nox.session
def pythons(session: nox.Session) -> None:
    """The package with every other Python that is installed."""
    steps(session, "pythons")


@nox.session
@nox.parametrize("engine", ["transformers", "vllm", "dynamo"])
def engines(session: nox.Session, engine: str) -> None:
    """The tests of an engine whose packages are large."""
    steps(session, "--with", engine)
