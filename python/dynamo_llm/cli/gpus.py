# SPDX-License-Identifier: Apache-2.0
"""Finds the GPUs of this machine, without the packages of any engine."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Seconds that nvidia-smi may take; it can hang if a driver does.
_timeout = 10
_query = "--query-gpu=name,memory.total,driver_version"


@dataclass
class Gpus:
    """The GPUs of a machine."""

    api: str | None = None
    """What engines use them through: ``CUDA`` or ``Metal``; None without a GPU."""
    names: list[str] = field(default_factory=list)
    """A description of each GPU; it may contain its memory and the driver's version."""
    source: str = ""
    """Where they were found."""
    problem: str | None = None
    """Why they may be unusable; None if nothing is known to be wrong."""

    def report(self) -> dict[str, Any]:
        """Returns the findings as a JSON object."""
        return asdict(self)


def find(root: Path = Path("/"), system: str | None = None, machine: str | None = None) -> Gpus:
    """Finds GPUs: with nvidia-smi, by the files of NVIDIA's driver, or, on Apple silicon, by the machine.
    Blocks for at most 10 seconds.

    :param root: folder that contains ``dev`` and ``proc``.
    :param system: name of the operating system; default: this one's.
    :param machine: name of the processor's architecture; default: this one's.
    """
    if (system or platform.system()) == "Darwin":
        if (machine or platform.machine()) == "arm64":
            return Gpus("Metal", ["Apple GPU"], "Apple silicon")
        return Gpus(source="not Apple silicon")
    found = _from_nvidia_smi()
    if not found.names:
        other = _from_driver(root)
        if other.names:
            found = Gpus(other.api, other.names, other.source, found.problem or other.problem)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if found.names and hidden is not None and hidden.strip() in ("", "-1"):
        found.problem = f'CUDA_VISIBLE_DEVICES is "{hidden}", which hides all GPUs from engines'
    return found


def _from_nvidia_smi() -> Gpus:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Gpus(source="no nvidia-smi, no files of NVIDIA's driver")
    try:
        done = subprocess.run(
            [program, _query, "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Gpus(source=program, problem=f"nvidia-smi did not answer within {_timeout} seconds")
    except OSError as error:
        return Gpus(source=program, problem=f"nvidia-smi cannot be run: {error.strerror}")
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode != 0:
        told = (lines or done.stderr.decode("utf-8", "replace").splitlines() or [""])[0].strip()
        return Gpus(source=program, problem=f"nvidia-smi failed with exit code {done.returncode}: {told}")
    names = []
    for line in lines:
        name, memory, driver = [*(part.strip() for part in line.split(",")), "", ""][:3]
        details = [memory, driver and f"driver {driver}"]
        names += [", ".join([name, *(one for one in details if one)])] if name else []
    return Gpus("CUDA" if names else None, names, program)


def _from_driver(root: Path) -> Gpus:
    """Finds NVIDIA GPUs by the files of the driver; containers often have these, but not nvidia-smi."""
    names = []
    for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        try:
            told = re.search(r"^Model:\s*(.+)$", file.read_text(errors="replace"), re.M)
        except OSError:
            continue
        names.append(told[1].strip() if told else "NVIDIA GPU")
    devices = sorted(path.name for path in root.glob("dev/nvidia[0-9]*"))
    if names:
        missing = "there is no /dev/nvidia0: this process, such as a container, has no access to the GPU"
        return Gpus("CUDA", names, "/proc/driver/nvidia", None if devices else missing)
    if devices:
        return Gpus("CUDA", ["NVIDIA GPU" for _ in devices], f"/dev/{', /dev/'.join(devices)}")
    return Gpus()
