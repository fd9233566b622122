# SPDX-License-Identifier: Apache-2.0
"""The command ``dynamo-llm``."""

import click

from dynamo_llm import __version__
from dynamo_llm.cli.config import config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dynamo-llm")
def main() -> None:
    """Run LLMs from C, C++ and Python."""


main.add_command(config)
