# SPDX-License-Identifier: Apache-2.0
"""Decodes a stream of tokens with the decoder of a tokenizer.

Hugging Face's decoders need all tokens of a text at once. Here, each decoder is a stage that receives tokens
as they arrive, returns their text as soon as no later token can change it, and keeps only the state it needs
to continue. The concatenated text equals the result of Hugging Face's decoder, with one exception: each byte
of a byte token that is not valid UTF-8 becomes one U+FFFD, as in SentencePiece, while Hugging Face's decoder
also replaces the characters around it.
"""

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import tokenizers

from dynamo_llm.runtime.pipeline.decoder_stages import (
    ByteFallback,
    ByteLevel,
    Distinct,
    EachToken,
    Fragment,
    ReplaceText,
    Stage,
    StripText,
    Suffix,
    TokenStage,
    WholeText,
    byte_token,
    bytes_of_letters_in,
)

#: Decoders whose result for a token depends only on the token and on whether it is the first.
_per_token = ("Replace", "Strip", "Metaspace", "WordPiece")


class DecodingText:
    """Decodes one text: holds the stages of a decoder with their state."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def copy(self) -> "DecodingText":
        """Returns an independent copy with the same state."""
        return DecodingText([copy.copy(stage) for stage in self._stages])

    @property
    def is_settled(self) -> bool:
        """Whether later text no longer depends on the first tokens."""
        return all(stage.is_settled for stage in self._stages)

    def feed(self, tokens: Iterable[str]) -> str:
        """Decodes more tokens. Returns the text that no later token can change."""
        fragments = [(token, True) for token in tokens]
        if not fragments:
            return ""
        for stage in self._stages:
            fragments = stage.feed(fragments)
        return "".join([text for text, _ in fragments])

    def finish(self) -> str:
        """Ends the text. Returns the rest of it."""
        fragments: list[Fragment] = []
        for stage in self._stages:
            fragments = [*stage.feed(fragments), *stage.finish()] if fragments else stage.finish()
        return "".join([text for text, _ in fragments])

    @property
    def state(self) -> list[list[Any]]:
        """The state of all stages, as a JSON value."""
        return [[getattr(stage, name) for name in stage.changing] for stage in self._stages]

    @state.setter
    def state(self, state: list[list[Any]]) -> None:
        for stage, values in zip(self._stages, state, strict=True):
            for name, value in zip(stage.changing, values, strict=True):
                setattr(stage, name, value)


class Decoder:
    """Decodes the tokens of a tokenizer.

    :param description: the key ``decoder`` of ``tokenizer.json``; None: tokens are words, joined by spaces.
    """

    def __init__(self, description: dict[str, Any] | None) -> None:
        self._stages = _stages_of(description)
        self.forgets = all(stage.forgets for stage in self._stages)
        """Whether the last few tokens determine the state, once the text :attr:`~DecodingText.is_settled`."""
        self.has_bytes = any(isinstance(stage, ByteFallback) for stage in self._stages)
        """Whether the vocabulary has byte tokens for characters that it lacks."""

    def begin(self) -> DecodingText:
        """Starts decoding a text."""
        return DecodingText([copy.copy(stage) for stage in self._stages])

    def decode(self, tokens: Iterable[str]) -> str:
        """Returns the text of all tokens."""
        text = self.begin()
        return text.feed(tokens) + text.finish()

    def bytes_of(self, token: str) -> bytes:
        """Returns the bytes that a token adds in the middle of a text."""
        for stage in self._stages:
            if isinstance(stage, EachToken):
                token = stage.piece(token, False)
            elif isinstance(stage, ByteFallback):
                if match := byte_token.fullmatch(token):
                    return bytes([int(match[1], 16)])
            elif isinstance(stage, ByteLevel):
                return bytes_of_letters_in(token)
            elif isinstance(stage, Suffix):
                token = token.replace(stage.suffix, " ")
            elif isinstance(stage, Distinct):
                token = stage.piece(token, True)
            else:  # the other stages change only the beginning and the end of a text
                break
        return token.encode()


def _stages_of(description: dict[str, Any] | None) -> list[Stage]:
    if description is None:
        return [EachToken(lambda token, is_first: token if is_first else " " + token)]
    stages: list[Stage] = []
    rest = _flat(description)
    is_fused = False
    while rest:
        if rest[0]["type"] == "Fuse":
            is_fused, rest = True, rest[1:]
            continue
        stage, count = (_behind_fuse if is_fused else _before_fuse)(rest)
        if isinstance(stage, TokenStage) and any(isinstance(before, ByteFallback) for before in stages):
            stage.forgets = False  # byte tokens can form a token of any length
        is_fused = is_fused or isinstance(stage, ByteLevel)
        stages.append(stage)
        rest = rest[count:]
    return stages


def _flat(description: dict[str, Any]) -> list[dict[str, Any]]:
    if description.get("type") != "Sequence":
        return [description]
    return [one for inner in description["decoders"] for one in _flat(inner)]


def _before_fuse(rest: list[dict[str, Any]]) -> tuple[Stage, int]:
    first = rest[0]
    kind = first["type"]
    count = 0
    while count < len(rest) and rest[count]["type"] in _per_token:
        count += 1
    if count:
        return EachToken(_piece(rest[:count])), count
    if kind == "ByteFallback":
        return ByteFallback(), 1
    if kind == "ByteLevel":
        return ByteLevel(), 1
    if kind == "BPEDecoder":
        return Suffix(first["suffix"]), 1
    if kind == "CTC":
        return Distinct(_piece(rest[:1])), 1
    raise ValueError(f'the decoder "{kind}" is unknown')


def _behind_fuse(rest: list[dict[str, Any]]) -> tuple[Stage, int]:
    first = rest[0]
    kind = first["type"]
    if kind == "Strip":
        return StripText(first["content"], first["start"], first["stop"]), 1
    if kind == "Replace" and first["pattern"].get("String"):
        return ReplaceText(first["pattern"]["String"], first["content"]), 1
    return WholeText(_decode_with(rest)), len(rest)


def _decode_with(decoders: list[dict[str, Any]]) -> Callable[[list[str]], str]:
    description = {"type": "Sequence", "decoders": decoders}
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    core = tokenizers.Tokenizer.from_str(json.dumps({"model": model, "decoder": description}))
    decode: Callable[[list[str]], str] = core.decoder.decode
    return decode


def _piece(decoders: list[dict[str, Any]]) -> Callable[[str, bool], str]:
    """Returns a function of a token, and of whether it is the first, that decodes the token."""
    decode = _decode_with(decoders)
    before = "x"
    known = len(decode([before]))

    @lru_cache(maxsize=65536)
    def piece(token: str, is_first: bool) -> str:
        return decode([token]) if is_first else decode([before, token])[known:]

    return piece
