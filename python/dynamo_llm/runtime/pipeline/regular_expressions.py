# SPDX-License-Identifier: Apache-2.0
"""Recognizes regular expressions in a tokenizer.json that may take very long for a short text.

The library ``tokenizers`` backtracks, up to millions of steps for each position of the text. A malicious
expression takes minutes for a thousand characters, and cannot be interrupted.
"""

import re
from typing import Any

#: Expressions that split texts in widely used models: GPT-2, Llama 3, Qwen, GPT-4o.
_suffixes = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_upper, _lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_before = r"[^\r\n\p{L}\p{N}]?"
_known = frozenset(
    {
        *(rf"{_suffixes}|{_before}\p{{L}}+|\p{{N}}{count}|{_rest}" for count in ("", "{1,3}", "{1,2}")),
        rf"{_before}{_upper}*{_lower}+{_suffixes}?|{_before}{_upper}+{_lower}*{_suffixes}?|\p{{N}}{{1,3}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    }
)
#: Maximum number of optional parts in an alternative; each doubles the number of ways to match.
_most_optional = 4
#: A token of the expression's syntax: an escape, a set, the beginning of a group, a repetition, and so on.
_syntax = re.compile(
    r"(?P<reference>\\[1-9kgG])|(?P<atom>\\[pP]\{[^}]*\}|\\.|\[(?:\\.|\[[^\]]*\]|[^\]\\])*\])"
    r"|(?P<behind>\(\?<|\(\?\(|\(\?~)|(?P<open>\()|(?P<close>\))|(?P<bar>\|)"
    r"|(?P<many>[*+]|\{\d*,\}|\{\d*,?\d{2,}\})|(?P<few>\?|\{[\d,]*\})|(?P<other>.)",
    re.DOTALL,
)


def may_backtrack(*steps: Any) -> bool:
    """Whether a normalizer or pre-tokenizer of a tokenizer.json has an expression that may take very long."""
    values = list(steps)
    while values:
        value = values.pop()
        if isinstance(value, dict):
            expression = value.get("Regex")
            if isinstance(expression, str) and not is_quick(expression):
                return True
            values += value.values()
        elif isinstance(value, list):
            values += value
    return False


def is_quick(expression: str) -> bool:
    """Whether the time to match is at most quadratic in the text's length: each alternative has at most one
    unbounded repetition, and that repeats a single character.
    """
    if expression in _known:
        return True
    depth = repeated = optional = 0
    last = previous = ""
    for token in _syntax.finditer(expression):
        kind = token.lastgroup or ""
        if kind in ("reference", "behind"):
            return False
        depth += (kind == "open") - (kind == "close")
        if kind == "bar" and depth == 0:
            repeated = optional = 0
        optional += kind == "few" and last not in ("many", "few")
        if kind == "many" and last in ("many", "few"):
            if token[0] != "+" or previous[0] == "{":  # else "+" makes the previous repetition possessive
                return False
        elif kind == "many":
            repeated += 1
        if optional > _most_optional or repeated > 1 or (kind == "many" and last == "close"):
            return False
        last, previous = kind, token[0]
    return True
