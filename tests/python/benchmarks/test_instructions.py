# SPDX-License-Identifier: Apache-2.0
"""What a token costs in instructions, which does not depend on the load of the machine."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "instructions"))
import instructions

pytestmark = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


def test_costs_are_as_before() -> None:
    """More is a regression; record fewer, too: python tests/instructions/instructions.py --renew."""
    before = instructions.kept().get(instructions.compiler())
    if before is None:
        pytest.skip(f"no counts of {instructions.compiler()} are kept: instructions.py --renew")
    problems = instructions.changes(instructions.count(), before)
    assert not problems, "; ".join(problems)


def test_an_increase_is_found() -> None:
    before = {name: 1000 for name in instructions.functions}
    assert instructions.changes(before, before) == []
    after = {**before, "dynamo_stream_push": 1060}
    assert instructions.changes(after, before) == ["dynamo_stream_push: 1060 instructions, 1000 before"]
