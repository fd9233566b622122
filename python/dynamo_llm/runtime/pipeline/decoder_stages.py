# SPDX-License-Identifier: Apache-2.0
"""The stages of a decoder, which convert a stream of tokens to text.

Each stage returns text as soon as no later token can change it, and keeps only the state it needs to
continue.
"""

import codecs
import re
from collections.abc import Callable
from functools import lru_cache

from dynamo_llm.runtime.stop_strings import partial_match

#: Part of a token, and whether the token ends with it.
Fragment = tuple[str, bool]

byte_token = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_replacement = "\ufffd"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _replacement * (error.end - error.start), error.end


codecs.register_error("dynamo_llm.replace_each_byte", _replace_each_byte)


_printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_others = [byte for byte in range(256) if byte not in _printable]
#: Letters of byte-level tokenizers: printable characters represent themselves, U+0100 and above other bytes.
_letters = {chr(byte): byte for byte in _printable}
_letters |= {chr(0x100 + number): byte for number, byte in enumerate(_others)}


@lru_cache(maxsize=65536)
def bytes_of_letters_in(token: str) -> bytes:
    """Returns the bytes of a byte-level token, or its UTF-8 if a letter does not represent a byte."""
    try:
        return bytes([_letters[letter] for letter in token])
    except KeyError:
        return token.encode()


class Stage:
    """Converts tokens to text, or to tokens for the next stage. The attributes named in ``changing`` are the
    state. Their values are never mutated, so a shallow copy of a stage is independent.
    """

    changing: tuple[str, ...] = ()
    #: Whether the last few tokens determine the state, once :attr:`is_settled`.
    forgets = True

    @property
    def is_settled(self) -> bool:
        """Whether later text no longer depends on the beginning."""
        return True

    def feed(self, fragments: list[Fragment]) -> list[Fragment]:
        """Receives more text. Returns the text that no later input can change."""
        raise NotImplementedError

    def finish(self) -> list[Fragment]:
        """Ends the text. Returns the rest of it."""
        return []


class TokenStage(Stage):
    """A stage that needs whole tokens."""

    changing: tuple[str, ...] = ("begun",)
    begun = ""

    def feed(self, fragments: list[Fragment]) -> list[Fragment]:
        result: list[Fragment] = []
        for text, ends in fragments:
            if ends:
                self.take(self.begun + text if self.begun else text, result)
                self.begun = ""
            else:
                self.begun += text
        return result

    def take(self, token: str, result: list[Fragment]) -> None:
        """Converts one token, and appends the result."""
        raise NotImplementedError


class EachToken(TokenStage):
    """Decodes each token from only its own text and whether it is the first."""

    changing = ("begun", "has_begun")
    has_begun = False

    def __init__(self, piece: Callable[[str, bool], str]) -> None:
        self.piece = piece

    @property
    def is_settled(self) -> bool:
        """Whether the first token was decoded."""
        return self.has_begun

    def take(self, token: str, result: list[Fragment]) -> None:
        result.append((self.piece(token, not self.has_begun), True))
        self.has_begun = True


class ByteFallback(TokenStage):
    """Decodes tokens such as ``<0xE2>``, which are bytes of UTF-8."""

    changing = ("begun", "pending", "is_amid_bytes")
    pending = ""  # bytes, as Latin-1 letters
    is_amid_bytes = False

    def take(self, token: str, result: list[Fragment]) -> None:
        if token.startswith("<0x") and (match := byte_token.fullmatch(token)):
            data = self.pending.encode("latin-1") + bytes([int(match[1], 16)])
            text, size = codecs.utf_8_decode(data, "dynamo_llm.replace_each_byte", False)
            self.pending, self.is_amid_bytes = data[size:].decode("latin-1"), True
            if text:
                result.append((text, False))
            return
        if self.is_amid_bytes:
            result += self.finish()
        result.append((token, True))

    def finish(self) -> list[Fragment]:
        if not self.is_amid_bytes:
            return []
        rest = _replacement * len(self.pending)
        self.pending, self.is_amid_bytes = "", False
        return [(rest, True)]


class ByteLevel(Stage):
    """Decodes tokens whose letters are bytes of UTF-8."""

    changing = ("pending", "begun")
    pending = ""
    begun = ""

    def feed(self, fragments: list[Fragment]) -> list[Fragment]:
        data = self.pending.encode("latin-1")
        for text, ends in fragments:
            if not ends:
                self.begun += text
                continue
            data += bytes_of_letters_in(self.begun + text if self.begun else text)
            self.begun = ""
        text, size = codecs.utf_8_decode(data, "replace", False)
        self.pending = data[size:].decode("latin-1")
        return [(text, False)] if text else []

    def finish(self) -> list[Fragment]:
        rest, self.pending = self.pending.encode("latin-1").decode(errors="replace"), ""
        return [(rest, True)]


class Suffix(TokenStage):
    """Replaces the suffix that ends a word by a space, or by nothing in the last token (``BPEDecoder``)."""

    changing = ("begun", "amid", "last")
    amid = ""
    """Rest of the previous token, used if another token follows."""
    last = ""
    """Rest of the previous token, used if it is the last one."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix

    def take(self, token: str, result: list[Fragment]) -> None:
        if self.amid:
            result.append((self.amid, True))
        amid, last = token.replace(self.suffix, " "), token.replace(self.suffix, "")
        same = 0
        while same < min(len(amid), len(last)) and amid[same] == last[same]:
            same += 1
        if amid == last:
            result.append((token, True))
            self.amid = self.last = ""
            return
        if same:
            result.append((amid[:same], False))
        self.amid, self.last = amid[same:], last[same:]

    def finish(self) -> list[Fragment]:
        if not self.amid:
            return []
        last, self.amid, self.last = self.last, "", ""
        return [(last, True)]


class Distinct(TokenStage):
    """Collapses runs of equal tokens into one, and drops padding (``CTC``)."""

    changing = ("begun", "before")
    before: str | None = None

    def __init__(self, piece: Callable[[str, bool], str]) -> None:
        self.piece = piece

    def take(self, token: str, result: list[Fragment]) -> None:
        if token == self.before:
            return
        self.before = token
        if text := self.piece(token, True):
            result.append((text, True))


# Stages after Fuse or ByteLevel: the whole text is one token.


class StripText(Stage):
    """Removes up to a given number of occurrences of a character at the beginning and at the end."""

    changing = ("left", "held")
    held = ""

    def __init__(self, content: str, left: int, right: int) -> None:
        self.content, self.left, self.right = content, left, right

    @property
    def is_settled(self) -> bool:
        """Whether the text to remove at the beginning has passed."""
        return self.left == 0

    def feed(self, fragments: list[Fragment]) -> list[Fragment]:
        if not self.left and not self.right:
            return fragments
        text = self.held + "".join([text for text, _ in fragments])
        removed = min(self.left, len(text) - len(text.lstrip(self.content)))
        text = text[removed:]
        self.left = 0 if text else self.left - removed
        border = len(text) - min(self.right, len(text) - len(text.rstrip(self.content)))
        self.held = text[border:]
        return [(text[:border], False)]

    def finish(self) -> list[Fragment]:
        self.held = ""
        return [("", True)]


class ReplaceText(Stage):
    """Replaces a string, even if it is split across fragments."""

    changing = ("held",)
    held = ""

    def __init__(self, pattern: str, content: str) -> None:
        self.pattern, self.content = pattern, content
        self.forgets = len(pattern) == 1

    def feed(self, fragments: list[Fragment]) -> list[Fragment]:
        text = self.held + "".join([text for text, _ in fragments])
        *whole, rest = text.split(self.pattern)
        border = len(rest) - partial_match(rest, self.pattern)
        self.held = rest[border:]
        return [("".join([part + self.content for part in whole]) + rest[:border], False)]

    def finish(self) -> list[Fragment]:
        rest, self.held = self.held, ""
        return [(rest, True)]


class WholeText(Stage):
    """Applies a decoder that models do not use after Fuse or ByteLevel, to the whole text at its end."""

    changing = ("held",)
    held = ""
    forgets = False

    def __init__(self, decode: Callable[[list[str]], str]) -> None:
        self.decode = decode

    def feed(self, fragments: list[Fragment]) -> list[Fragment]:
        self.held += "".join([text for text, _ in fragments])
        return []

    def finish(self) -> list[Fragment]:
        rest, self.held = self.decode([self.held]), ""
        return [(rest, True)]
