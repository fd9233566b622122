# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm config``: prints options for compilers and build systems."""

import re
import shlex

import click

from dynamo_llm import __version__, _core, paths

_static_libraries = "-lstdc++ -lm -ldl -lpthread"

# Characters that a shell, or shlex.split(), does not take literally. Words are quoted only if they need it:
# a shell does not interpret quotes in the result of $(...).
_special = re.compile(r"[^\w@%+=:,./\-\u0080-\U0010ffff]")


def _run_path(lib: str) -> list[str]:
    """Linker options with which a program finds the library in a folder at run time."""
    if ":" in lib:
        raise click.ClickException(
            f'the library is installed in {lib}; a run path cannot contain a folder with ":" in its name. '
            "Install the package in another folder, or link with --static"
        )
    # -Wl splits at commas, so such paths need -Xlinker. Otherwise -Wl is better: tcc does not know -Xlinker,
    # and CMake drops the second of two equal options.
    return ["-Xlinker", "-rpath", "-Xlinker", lib] if "," in lib else [f"-Wl,-rpath,{lib}"]


@click.command()
@click.option("--cflags", is_flag=True, help="Options for the compiler.")
@click.option("--libs", is_flag=True, help="Options for the linker; the program then finds the library.")
@click.option("--static", is_flag=True, help="With --cflags and --libs: link the static library.")
@click.option("--libdir", is_flag=True, help="Folder of the library.")
@click.option("--includedir", is_flag=True, help="Folder of dynamo_llm.h.")
@click.option("--cmakedir", is_flag=True, help="Folder of the CMake package, for DynamoLLM_DIR.")
@click.option("--pkgconfigdir", is_flag=True, help="Folder of the pkg-config files, for PKG_CONFIG_PATH.")
@click.option("--version", "version", is_flag=True, help="Version of the library.")
@click.option("--schema", is_flag=True, help="JSON Schema of a runtime's configuration.")
@click.pass_context
def config(
    context: click.Context,
    cflags: bool,
    libs: bool,
    static: bool,
    libdir: bool,
    includedir: bool,
    cmakedir: bool,
    pkgconfigdir: bool,
    version: bool,
    schema: bool,
) -> None:
    """Print compiler and linker options: gcc app.c $(dynamo-llm config --cflags --libs)"""
    lib = str(paths.lib_dir())
    include = str(paths.include_dir())
    words: list[str] = []
    if cflags:
        words += [f"-I{include}"] + (["-DDYNAMO_LLM_STATIC"] if static else [])
    if libs and static:
        words += [f"{lib}/libdynamo_llm_capi.a", *_static_libraries.split()]
    elif libs:
        words += [f"-L{lib}", "-ldynamo_llm_capi", *_run_path(lib)]
    words = [shlex.quote(word) if _special.search(word) else word for word in words]
    lines = [" ".join(words)] if words else []
    lines += [lib] * libdir + [include] * includedir
    lines += [str(paths.cmake_dir())] * cmakedir + [str(paths.pkgconfig_dir())] * pkgconfigdir
    lines += [__version__] * version
    if schema:
        lines.append(_core.config_schema())
    if not lines:
        raise click.UsageError("no option is given; choose what to print, such as --cflags --libs", context)
    click.echo("\n".join(lines))
