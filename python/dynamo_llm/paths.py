# SPDX-License-Identifier: Apache-2.0
"""Locates the C library and the files installed with it."""

from pathlib import Path

from dynamo_llm import _core

_package = Path(__file__).resolve().parent
#: In an editable installation the Python files stay with the sources, and compiled files are elsewhere.
_compiled = Path(str(_core.__file__)).resolve().parent
#: The folder of libraries if CMake installed the package: it is then in
#: ``<prefix>/lib/python3.N/site-packages/dynamo_llm``.
_libdir_of_prefix = _compiled.parent.parent.parent


def lib_dir() -> Path:
    """Returns the folder of ``libdynamo_llm_capi``, shared and static."""
    in_wheel = _compiled / "lib"
    return in_wheel if in_wheel.is_dir() else _libdir_of_prefix


def include_dir() -> Path:
    """Returns the folder of ``dynamo_llm.h``."""
    in_wheel = _compiled / "include"
    if in_wheel.is_dir():
        return in_wheel
    # The libraries may be in <prefix>/lib or in <prefix>/lib/x86_64-linux-gnu.
    folders = [folder / "include" for folder in _libdir_of_prefix.parents]
    return next((one for one in folders if (one / "dynamo_llm.h").is_file()), folders[0])


def cmake_dir() -> Path:
    """Returns the folder of ``DynamoLLMConfig.cmake``, for ``DynamoLLM_DIR``."""
    return lib_dir() / "cmake" / "DynamoLLM"


def pkgconfig_dir() -> Path:
    """Returns the folder of ``dynamo_llm_capi.pc``, for ``PKG_CONFIG_PATH``."""
    return lib_dir() / "pkgconfig"


def demo_model_dir() -> Path:
    """Returns the folder of the demo model."""
    return _package / "models" / "demo"
