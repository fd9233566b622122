# SPDX-License-Identifier: Apache-2.0
"""Where the C library and the files that belong to it are installed."""

from pathlib import Path

_package = Path(__file__).resolve().parent
#: Where CMake installed the package: ``<prefix>/lib/python3.N/site-packages/dynamo_llm``.
_libdir_of_prefix = _package.parent.parent.parent


def lib_dir() -> Path:
    """Folder of ``libdynamo_llm_capi``, shared and static."""
    in_wheel = _package / "lib"
    return in_wheel if in_wheel.is_dir() else _libdir_of_prefix


def include_dir() -> Path:
    """Folder of ``dynamo_llm.h``."""
    in_wheel = _package / "include"
    if in_wheel.is_dir():
        return in_wheel
    # The library's folder may be <prefix>/lib, or <prefix>/lib/x86_64-linux-gnu.
    folders = [folder / "include" for folder in _libdir_of_prefix.parents]
    return next((one for one in folders if (one / "dynamo_llm.h").is_file()), folders[0])


def cmake_dir() -> Path:
    """Folder of ``DynamoLLMConfig.cmake``, for ``DynamoLLM_DIR``."""
    return lib_dir() / "cmake" / "DynamoLLM"


def pkgconfig_dir() -> Path:
    """Folder of ``dynamo_llm_capi.pc``, for ``PKG_CONFIG_PATH``."""
    return lib_dir() / "pkgconfig"


def demo_model_dir() -> Path:
    """Folder of the demo model."""
    return _package / "models" / "demo"
