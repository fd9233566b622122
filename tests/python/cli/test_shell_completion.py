# SPDX-License-Identifier: Apache-2.0
"""Completion of commands, options, and engine names in a shell."""

import shlex
import sys
from pathlib import Path

import pytest
from conftest import run


def completed(*words: str) -> set[str]:
    """Returns what bash offers for the last word, after the line of docs/cli.md."""
    script = f"""
        eval "$(_DYNAMO_LLM_COMPLETE=bash_source dynamo-llm)"
        COMP_WORDS=({shlex.join(words)})
        COMP_CWORD={len(words) - 1}
        complete -p dynamo-llm | grep -q -- "-F _dynamo_llm_completion" || exit 3
        _dynamo_llm_completion dynamo-llm {shlex.quote(words[-1])} {shlex.quote(words[-2])}
        printf "%s\\n" "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    result = run(["bash", "-c", script], {"PATH": path})
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["do"], {"doctor"}),
        (["e"], {"embed"}),
        (["chat", "--max"], {"--max-tokens"}),
        (["chat", "--engine", "ec"], {"echo"}),
        (["serve", "--engine", "d"], {"dynamo", "dynamo-backend", "dynamo-endpoint"}),
        (["tokenize", "--i"], {"--ids"}),
    ],
)
def test_bash(words: list[str], expected: set[str]) -> None:
    assert completed("dynamo-llm", *words) == expected


def test_other_shells() -> None:
    """There is a script for them; these shells need not be installed here."""
    script = Path(sys.executable).parent / "dynamo-llm"
    for shell in ("zsh", "fish"):
        result = run([script], {"_DYNAMO_LLM_COMPLETE": f"{shell}_source"})
        assert result.returncode == 0 and "_DYNAMO_LLM_COMPLETE" in result.stdout
