# SPDX-License-Identifier: Apache-2.0
"""Defines how byte-level tokenizers of GGUF files split a text into words, by the name in
``tokenizer.ggml.pre``.

A GGUF file names the rule, but does not contain it. The expressions are those that the models were trained
with; each splits the remaining text of the previous one. Unknown names are rejected: with another rule, the
model would read other tokens than in training.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """The rule of a family of tokenizers."""

    expressions: tuple[str, ...]
    ignores_merges: bool = False
    """Whether a word that is in the vocabulary becomes that token, whatever the merges produce."""
    adds_bos: bool = False
    """Whether texts begin with BOS if the file does not declare it."""
    composes: bool = False
    """Whether texts are normalized to Unicode NFC."""


_suffixes = r"'s|'t|'re|'ve|'m|'ll|'d"
_any_case = rf"(?i:{_suffixes})"
_spaces = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_gpt2 = rf"{_suffixes}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
_upper, _lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_before = r"[^\r\n\p{L}\p{N}]?"


def _cl100k(digits: str) -> str:
    return rf"{_any_case}|{_before}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_spaces}"


def _o200k(suffixes: str, digits: str) -> str:
    words = rf"{_before}{_upper}*{_lower}+{suffixes}|{_before}{_upper}+{_lower}*{suffixes}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_spaces}"


_llama3 = Split((_cl100k(r"\p{N}{1,3}"),), ignores_merges=True, adds_bos=True)
_qwen2 = Split((_cl100k(r"\p{N}"),), composes=True)
_deepseek3 = Split(
    (
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_spaces}",
    )
)
_bloom = r" ?[^(\s|.,!?…。，、।۔،)]+"

#: Rules by the name in ``tokenizer.ggml.pre``.
known: dict[str, Split] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "roberta-bpe"), Split((_gpt2,))),
    **dict.fromkeys(
        ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"),
        Split((r"\p{N}", _gpt2)),
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _llama3
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), Split((_cl100k(r"\p{N}{1,3}"),))),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2"), _qwen2),
    "hunyuan": Split((_cl100k(r"\p{N}"),)),
    "qwen35": Split(
        (
            rf"{_any_case}|{_before}[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_spaces}",
        ),
        composes=True,
    ),
    **dict.fromkeys(
        ("gpt-4o", "llama4", "kanana2", "minimax-m2"), Split((_o200k(f"{_any_case}?", r"\p{N}{1,3}"),))
    ),
    "tekken": Split((_o200k("", r"\p{N}"),), ignores_merges=True, adds_bos=True),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), _deepseek3),
    "deepseek-coder": Split((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}")),
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), Split((_bloom,))),
    "viking": Split((_bloom, r"\p{N}")),
    "default": Split((r"[\p{P}$+<=>^~|]+", _gpt2, r"\p{N}+", r"[0-9][0-9][0-9]")),
}
