# SPDX-License-Identifier: Apache-2.0
"""Rejects texts that cannot fit into a model's context, without encoding all of them."""

import json
from typing import Any

import tokenizers

from dynamo_llm.errors import ContextLengthError

#: Texts with more characters than this for each token of the context are checked before they are encoded:
#: written language has about four characters per token.
_characters_looked_at = 8
#: Maximum characters for each token of the context: a tokenizer that omits characters, or joins unknown ones,
#: produces few tokens for a text of any length.
_most_characters = 1024
#: Characters that are encoded at once: 50 to 200 ms of work without the GIL.
_piece = 65536
#: Maximum bytes of UTF-8 that a normalizer reduces to one: four for a mathematical letter.
_shrinking = {"NFC": 4, "NFD": 4, "NFKC": 4, "NFKD": 4, "Lowercase": 4, "Prepend": 1, "ByteLevel": 1}
#: Pre-tokenizers that keep all characters, unless their "behavior" is to remove some.
_keeping = {"ByteLevel", "Metaspace", "Digits", "UnicodeScripts", "Split", "Punctuation"}


def longest_token(core: tokenizers.Tokenizer) -> int | None:
    """Returns the maximum number of UTF-8 bytes of a text that one token represents.

    :returns: None if there is no bound, because the tokenizer drops characters or joins unknown ones.
    """
    added = core.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip for token in added):  # such tokens also take all adjacent white space
        return None
    normalizers = _steps(core.normalizer, "normalizers")
    pre_tokenizers = _steps(core.pre_tokenizer, "pretokenizers")
    factor = _shrinks(normalizers)
    has_bytes = any(step["type"] == "ByteLevel" for step in (*normalizers, *pre_tokenizers))
    longest = _longest_of_model(core.model, core.get_vocab(with_added_tokens=True), has_bytes)
    keeps_all = all(s["type"] in _keeping and s.get("behavior") != "Removed" for s in pre_tokenizers)
    if factor is None or longest is None or not keeps_all:
        return None
    return max(longest, *(len(token.content.encode()) for token in added), 1) * factor


def count(core: tokenizers.Tokenizer, text: str, context_length: int | None) -> int:
    """Counts the tokens of a text, including those that begin and end every text. Thread-safe.

    :raises ContextLengthError: the text is much too long.
    """
    if context_length is not None:
        check(core, text, context_length)
    return len(core.encode_batch_fast([text])[0])


def check(core: tokenizers.Tokenizer, text: str, context_length: int) -> None:
    """Rejects a text that has too many tokens, without encoding all of it. Thread-safe.

    A text of normal length passes, because encoding it is cheap. Of a longer one, pieces are encoded, without
    the GIL, until the result is certain. The tokens of the pieces differ from those of the whole text, but
    their number is nearly the same.

    :raises ContextLengthError: the text is too long.
    """
    if len(text) <= _characters_looked_at * context_length:
        return
    if len(text) > _most_characters * context_length:
        raise ContextLengthError(
            f"the prompt has {len(text)} characters, more than {_most_characters} for each of the "
            f"{context_length} tokens that are the model's context length"
        )
    found = 0
    for start in range(0, len(text), _piece):
        piece = text[start : start + _piece]
        found += len(core.encode_batch_fast([piece], add_special_tokens=False)[0])
        if found > 2 * context_length:
            raise ContextLengthError(
                f"the prompt has more than {found // 2} tokens, but the model's context length is "
                f"{context_length} tokens"
            )


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    """Returns the descriptions of a tokenizer component's steps, in order."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    return list(state[key]) if state["type"] == "Sequence" else [state]


def _shrinks(normalizers: list[dict[str, Any]]) -> int | None:
    """Returns how many bytes may become one; None for any number."""
    factor = 1
    for step in normalizers:
        times = _shrinking.get(step["type"])
        if step["type"] == "Replace" and "String" in step["pattern"] and step["content"]:
            old, new = step["pattern"]["String"], step["content"]
            times = -(-len(old.encode()) // len(new.encode()))
        if times is None:
            return None
        factor *= max(times, 1)
    return factor


def _longest_of_model(model: Any, vocabulary: dict[str, int], has_bytes: bool) -> int | None:
    """Returns the bytes of a model's longest token; None if the model joins or drops unknown characters."""
    longest = max((len(token.encode()) for token in vocabulary), default=1)
    kind = type(model).__name__
    if kind not in ("BPE", "Unigram"):
        return None
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    if kind == "BPE" and has_bytes and all(letter in vocabulary for letter in letters):
        return longest
    if getattr(model, "byte_fallback", False) and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return longest
    if kind == "BPE" and model.unk_token is not None and not model.fuse_unk:
        return max(longest, 4)
    return None
