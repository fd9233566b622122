# SPDX-License-Identifier: Apache-2.0
"""The command ``dynamo-llm``.

Modules of commands import at their top what the standard library and click have; the rest is imported by the
command that needs it, so that ``dynamo-llm config`` in a makefile costs next to nothing.
"""

import click

from dynamo_llm import __version__
from dynamo_llm.cli.bench import bench
from dynamo_llm.cli.chat import chat
from dynamo_llm.cli.config import config
from dynamo_llm.cli.doctor import doctor
from dynamo_llm.cli.ending import Ending
from dynamo_llm.cli.models import models
from dynamo_llm.cli.serve import serve


@click.group(cls=Ending, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dynamo-llm")
def main() -> None:
    """Run LLMs from C, C++ and Python."""


for command in (bench, chat, config, doctor, models, serve):
    main.add_command(command)
