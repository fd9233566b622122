# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm config``: what a compiler and a build system need."""

import shlex

import click

from dynamo_llm import __version__, paths

_static_libraries = "-lstdc++ -lm -ldl -lpthread"


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
    """Print what it takes to compile a program: gcc app.c $(dynamo-llm config --cflags --libs)"""
    lib = str(paths.lib_dir())
    include = str(paths.include_dir())
    words: list[str] = []
    if cflags:
        words += [f"-I{include}"] + (["-DDYNAMO_LLM_STATIC"] if static else [])
    if libs and static:
        words += [f"{lib}/libdynamo_llm_capi.a", *_static_libraries.split()]
    elif libs:
        words += [f"-L{lib}", "-ldynamo_llm_capi", f"-Wl,-rpath,{lib}"]
    lines = [shlex.join(words)] if words else []
    lines += [lib] * libdir + [include] * includedir
    lines += [str(paths.cmake_dir())] * cmakedir + [str(paths.pkgconfig_dir())] * pkgconfigdir
    lines += [__version__] * version
    if schema:
        from dynamo_llm import _core

        lines.append(_core.config_schema())
    if not lines:
        raise click.UsageError("say what to print, such as --cflags --libs", context)
    click.echo("\n".join(lines))
