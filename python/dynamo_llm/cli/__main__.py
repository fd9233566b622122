# SPDX-License-Identifier: Apache-2.0
"""``python -m dynamo_llm.cli``: the command where its script is not on PATH."""

from dynamo_llm.cli import main

main(prog_name="dynamo-llm")
