# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm doctor``: reports what works on this machine, and why the rest does not."""

import ctypes
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dynamo_llm import DynamoError, __version__, _core, paths
from dynamo_llm.cli import command_group, output
from dynamo_llm.printable import printable

#: Seconds that one run on an engine may take; importing an engine's packages from a slow disk takes long.
_run_timeout = 120

# Asks an interpreter for the folders of its shared library: those that the C library searches, too.
_locate_script = """
import json, os, sys, sysconfig
get = sysconfig.get_config_var
name = get("INSTSONAME") or ""
if name.endswith(".a") or not name:
    name = "libpython%d.%d" % sys.version_info[:2] + (".dylib" if sys.platform == "darwin" else ".so.1.0")
folders = [get("LIBDIR"), os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_prefix, "lib64")]
if not str(get("LIBDIR")).startswith(sys.base_prefix):  # it was moved
    folders = folders[1:2] + folders[:1] + folders[2:]
folders += [os.path.join(f, get("MULTIARCH")) for f in folders[:2] if f and get("MULTIARCH")]
print("\\n" + json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "name": name,
    "folders": [f for f in folders if f],
}))
"""


@click.command()
@output.json_option("Print the findings as JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check the installation: library, Python, engines, GPUs, and a test run on two engines.

    The exit code is 0 if the default engine, mistral.rs with the demo model, works.
    """
    from dynamo_llm.cli import engine_devices, gpus

    with output.spinner("Trying the engines ..."):
        found = gpus.find()
        findings = {
            "library": _library(),
            "python": _python(),
            "python_for_c": _python_for_c(),
            "engines": _engines(),
            "gpus": found.report(),
            "devices": {name: device.report() for name, device in engine_devices.find(found).items()},
            "runs": {"echo": _run('{"engine": "echo"}'), "default": _run("{}")},
        }
    if as_json:
        output.write_json(findings, indent=2)
    else:
        _show(findings)
    if not findings["runs"]["default"]["works"]:
        context.exit(command_group.FAILED)


def _library() -> dict[str, Any]:
    folder = paths.lib_dir()
    files = [*sorted(folder.glob("libdynamo_llm_capi.*so.*")), *sorted(folder.glob("libdynamo_llm_capi.*"))]
    if not files:
        return {"path": str(folder), "problem": "libdynamo_llm_capi is not in this folder"}
    path = files[0]
    found: dict[str, Any] = {"path": str(path), "package": __version__}
    try:
        library = ctypes.CDLL(str(path))
        library.dynamo_version_string.restype = ctypes.c_char_p
        library.dynamo_abi_version.restype = ctypes.c_uint32
        found["version"] = library.dynamo_version_string().decode()
        found["abi"] = library.dynamo_abi_version()
    except (OSError, AttributeError) as error:
        found["problem"] = str(error)
    else:
        if found["version"] != __version__:
            found["problem"] = f"the library has version {found['version']}, but the package {__version__}"
    return found


def _python() -> dict[str, Any]:
    return {
        "executable": sys.executable,
        "version": platform.python_version(),
        "implementation": sys.implementation.name,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "DYNAMO_LLM_PYTHON": _core.variable("DYNAMO_LLM_PYTHON"),
        "VIRTUAL_ENV": os.environ.get("VIRTUAL_ENV"),
    }


def _python_for_c() -> dict[str, Any]:
    """The interpreter that a C program uses if it links the library of this environment.

    Only the first two candidates of docs/embedding.md matter: the second always fits, since this process runs
    in it.
    """
    named = _core.variable("DYNAMO_LLM_PYTHON")
    found: dict[str, Any] = {
        "executable": named or sys.executable,
        "because": "DYNAMO_LLM_PYTHON names it" if named else "the library is installed in its environment",
    }
    try:
        answer = subprocess.run(
            [found["executable"], "-I", "-c", _locate_script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=True,
        )
        told = json.loads(answer.stdout.split(b"\n")[-2])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return {**found, "problem": f"it is not a working Python: {error}"}
    files = [Path(folder) / told["name"] for folder in told["folders"]]
    found["version"] = told["version"]
    found["libpython"] = next((str(file) for file in files if file.exists()), None)
    if found["libpython"] is None:
        found["problem"] = (
            f"programs in C cannot run Python engines: {told['name']} is not in any of "
            f"{', '.join(told['folders'])}; install the package "
            f"libpython{told['version'].rpartition('.')[0]} (Debian, Ubuntu), or a Python built with "
            f"--enable-shared"
        )
    return found


def _engines() -> dict[str, Any]:
    from dynamo_llm.runtime import extras, registry

    engines: dict[str, Any] = {}
    for name in registry.names():
        extra = registry.extra(name)
        of_extra = [_name_of(one) for one in extras.requirements(extra)]
        # The default engine is not an extra, but always required.
        required = of_extra or [one for one in map(_name_of, extras.requirements(None)) if one == name]
        packages = {one: _version(one) for one in required}
        missing = sorted(package for package, version in packages.items() if version is None)
        problem = None
        architectures: list[str] = []
        if missing:
            command = extras.install_command(extra) if of_extra else f"python -m pip install {name}"
            problem = f"{', '.join(missing)} not installed; run: {command}"
        elif name not in ("echo", "scripted"):  # these are built into the library and have no class
            try:
                architectures = list(getattr(registry.find(name), "architectures", ()))
            except DynamoError as error:
                problem = str(error)
        engines[name] = {"packages": packages, "problem": problem, "installed": not missing}
        engines[name]["optional"] = bool(of_extra)
        if architectures:  # only of engines that support a fixed list
            engines[name]["architectures"] = architectures
    return engines


def _name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _version(package: str) -> str | None:
    from dynamo_llm.runtime import extras

    found = extras.provider_of(package)
    if found is None:
        return None
    name, version = found
    return version if name == package else f"{version} ({name})"


def _run(config: str) -> dict[str, Any]:
    """Runs an engine in a process of its own: if it crashes, the other findings are still reported."""
    command = [sys.executable, "-m", "dynamo_llm", "bench", "--json", "--config", config]
    command += ["--requests", "1", "--concurrency", "1", "--max-tokens", "8"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_run_timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"works": False, "problem": f"no answer within {_run_timeout} seconds"}
    try:
        told = json.loads(done.stdout)
    except ValueError:
        told = {}
    if done.returncode < 0:
        problem = f"the process was killed by {signal.Signals(-done.returncode).name}"
    elif "error" in told:
        problem = told["error"]["message"]
    elif told.get("errors"):
        problem = ", ".join(told["errors"])
    elif done.returncode != 0:
        problem = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
    else:
        return {
            "works": True,
            "load_seconds": told["load_seconds"],
            "first_response_ms": told["time_to_first_response_ms"]["p50"],
            "end_ms": told["time_to_end_ms"]["p50"],
        }
    return {"works": False, "problem": problem}


#: Columns of a terminal from which the texts stand beside their names, not below them.
_wide = 100
#: Styles of the states. A row whose state is dim is dim as a whole.
_styles = {"ok": "green", "FAILS": "red", "not used": "yellow", "not installed": "dim", "none": "dim"}


def _state(good: bool) -> str:
    return "ok" if good else "FAILS"


def _rows(findings: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields what is shown: a name, a state of :data:`_styles`, and a text."""
    library, python, for_c = (findings[key] for key in ("library", "python", "python_for_c"))
    told = library.get("problem") or f"{library['version']}, ABI {library['abi']}, {library['path']}"
    yield "library", _state("problem" not in library), told
    yield "python", "ok", f"{python['version']}, {python['executable']}, prefix {python['prefix']}"
    for key in ("DYNAMO_LLM_PYTHON", "VIRTUAL_ENV"):
        if python[key]:
            yield key, "ok", python[key]
    told = for_c.get("problem") or f"{for_c['executable']} with {for_c['libpython']}: {for_c['because']}"
    yield "python for C programs", _state("problem" not in for_c), told
    for name, engine in findings["engines"].items():
        told = ", ".join(f"{package} {version}" for package, version in engine["packages"].items())
        if "architectures" in engine:
            told += f"; architectures: {', '.join(engine['architectures'])}"
        is_left_out = engine["optional"] and not engine["installed"]
        state = "not installed" if is_left_out else _state(engine["problem"] is None)
        yield f"engine {name}", state, engine["problem"] or told or "available"
    yield from _device_rows(findings["gpus"], findings["devices"])
    for name, run in findings["runs"].items():
        told = (
            f"loaded in {run['load_seconds']:.2f} s, first response after {run['first_response_ms']:.1f} ms, "
            f"end after {run['end_ms']:.1f} ms"
            if run["works"]
            else run["problem"]
        )
        yield f"run on {name}", _state(run["works"]), told


def _device_rows(found: dict[str, Any], devices: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    problem = found["problem"]
    if found["names"]:
        told = f"{found['api']}: {'; '.join(found['names'])} (by {found['source']})"
        yield "gpu", _state(problem is None), told if problem is None else f"{told}; {problem}"
    else:
        yield "gpu", "none", problem or f"no GPU was found: {found['source']}"
    for engine, device in devices.items():
        is_installed = device["reason"] != "not installed"
        how = f"; for {found['api']}: {device['gpu_build']}" if device["gpu_build"] else ""
        if device["uses"] not in (None, "CPU"):
            yield f"device of {engine}", "ok", f"{device['uses']}: {device['reason']}"
        elif device["uses"] == "CPU":
            yield f"device of {engine}", "not used" if how else "ok", f"CPU: {device['reason']}{how}"
        elif is_installed:
            yield f"device of {engine}", "FAILS", device["reason"] + how
        elif how:
            yield f"device of {engine}", "not installed", how.removeprefix("; ")


def _show(findings: dict[str, Any]) -> None:
    rows = [(printable(name), state, printable(told)) for name, state, told in _rows(findings)]
    if not sys.stdout.isatty():
        for name, state, told in rows:
            output.write_line(f"{name:22} {state:13} {told}")
        return
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = output.console()
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, state, told in rows:
        style = _styles[state]
        rest = "dim" if style == "dim" else ""
        parts = Text(name, rest), Text(state, style), Text(told, rest, overflow="fold")
        if console.width >= _wide:
            table.add_row(*parts)
            continue
        console.print(Text("  ").join(parts[:2]))
        console.print(Padding(parts[2], (0, 0, 0, 4)))
    if table.row_count:
        console.print(table)
