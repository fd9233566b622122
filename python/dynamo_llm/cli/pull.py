# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm pull``: downloads a model of the Hugging Face Hub."""

import click

import dynamo_llm
from dynamo_llm.cli import output, runtime_options


@click.command()
@click.option(
    "--engine",
    metavar="NAME",
    default="mistralrs",
    show_default=True,
    help="Engine that will load the model: it determines which files are downloaded.",
)
@click.option(
    "--offline", is_flag=True, help="Download nothing: print where the model is, if it is complete."
)
@output.json_option("Print the result as JSON.")
@click.argument("name")
def pull(name: str, engine: str, offline: bool, as_json: bool) -> None:
    """Download the model NAME of the Hugging Face Hub, and print its path.

    NAME is org/name, org/name:Q4_K_M for a GGUF quantization, or org/name@revision. Files that are in the
    Hugging Face cache are not downloaded again.
    """
    name = runtime_options.utf8(name, "NAME")
    with output.spinner("Looking the model up") as show:
        path = dynamo_llm.pull(name, engine=engine, offline=offline, progress=show)
    if as_json:
        output.write_json({"model": f"hf:{name.removeprefix('hf:')}", "path": str(path)})
    else:
        output.write_line(str(path))
