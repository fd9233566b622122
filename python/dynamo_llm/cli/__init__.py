# SPDX-License-Identifier: Apache-2.0
"""The command ``dynamo-llm``.

At the top, modules of commands import only the standard library, click, and what these need; other imports
are inside the commands, so that ``dynamo-llm config`` in a makefile starts fast.
"""

import click

from dynamo_llm import __version__
from dynamo_llm.cli.batch import batch
from dynamo_llm.cli.bench import bench
from dynamo_llm.cli.bundle import bundle
from dynamo_llm.cli.chat import chat
from dynamo_llm.cli.command_group import CommandGroup
from dynamo_llm.cli.complete import complete
from dynamo_llm.cli.config import config
from dynamo_llm.cli.doctor import doctor
from dynamo_llm.cli.embed import embed
from dynamo_llm.cli.models import models
from dynamo_llm.cli.pull import pull
from dynamo_llm.cli.serve import serve
from dynamo_llm.cli.tokenize import tokenize


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dynamo-llm")
def main() -> None:
    """Run LLMs from C, C++, and Python."""


for command in (batch, bench, bundle, chat, complete, config, doctor, embed, models, pull, serve, tokenize):
    main.add_command(command)
