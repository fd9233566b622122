# SPDX-License-Identifier: Apache-2.0
"""``python -m dynamo_llm``: the command ``dynamo-llm``, with the options that build systems expect."""

from collections.abc import Callable
from pathlib import Path

import click

from dynamo_llm import paths
from dynamo_llm.cli import main


def _folder_option(name: str, folder: Callable[[], Path], what: str) -> click.Option:
    def show(context: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given:
            click.echo(folder())
            context.exit()

    return click.Option(
        [name],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help=f"Print the folder of {what}.",
    )


main.params += [
    _folder_option("--cmakedir", paths.cmake_dir, "the CMake package, for DynamoLLM_DIR"),
    _folder_option("--includedir", paths.include_dir, "dynamo_llm.h"),
    _folder_option("--libdir", paths.lib_dir, "the library"),
    _folder_option("--pkgconfigdir", paths.pkgconfig_dir, "the pkg-config files, for PKG_CONFIG_PATH"),
]
main(prog_name="python -m dynamo_llm")
