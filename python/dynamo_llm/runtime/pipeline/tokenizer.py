# SPDX-License-Identifier: Apache-2.0
"""Texts to token ids."""

import asyncio
import json
import re
from functools import lru_cache
from typing import Any

import tokenizers

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime.pipeline.folder import Folder

#: Characters from which on a text is encoded in a thread: about a millisecond of work.
_long = 4000
_byte_token = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=1)
def _bytes_of_letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes as: those that print stand for themselves, the
    others follow from U+0100 on.
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {chr(byte): byte for byte in printed}
    letters.update({chr(0x100 + number): byte for number, byte in enumerate(others)})
    return letters


def _kinds(decoder: Any) -> set[str]:
    """Types of a decoder and of those in it."""
    if not isinstance(decoder, dict):
        return set()
    kinds = {str(decoder.get("type"))}
    return kinds.union(*(_kinds(inner) for inner in decoder.get("decoders", ())))


@lru_cache(maxsize=2)
def _core_of(file: str, changed: int, size: int) -> tokenizers.Tokenizer:
    """A tokenizer of the library. The last ones are kept: a model is often opened again, and tokenizers 0.23
    loses about 2 KB with each object that encoded something through a regular expression.
    """
    core = tokenizers.Tokenizer.from_file(file)
    # Both are for batches in training.
    core.no_truncation()
    core.no_padding()
    return core


class Tokenizer:
    """A model's tokenizer. Any thread may use it.

    :raises ModelNotFoundError: ``tokenizer.json`` cannot be read.
    """

    def __init__(self, folder: Folder) -> None:
        try:
            state = folder.tokenizer_file.stat()
            self.core = _core_of(str(folder.tokenizer_file), state.st_mtime_ns, state.st_size)
        except Exception as error:  # the library raises Exception itself
            raise ModelNotFoundError(f'"{folder.tokenizer_file}" is no tokenizer: {error}') from error
        self._added = {id: token.content for id, token in self.core.get_added_tokens_decoder().items()}
        description = json.loads(self.core.to_str())
        self._decoders = _kinds(description.get("decoder"))
        self._has_spaces_as_lines = '"▁"' in json.dumps(description.get("decoder"), ensure_ascii=False)
        self.vocab_size = max(self.core.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        """Ids are less than this."""
        bos = folder.special_tokens.get("bos_token")
        self._bos = None if bos is None else self.core.token_to_id(bos)
        adds_bos = self._bos is not None and self._bos in self.core.encode("").ids
        # The configuration overrides the file.
        wants_bos = folder.tokenizer_config.get("add_bos_token")
        self._must_add_bos = self._bos is not None and wants_bos is True and not adds_bos
        self._must_drop_bos = wants_bos is False and adds_bos
        self.token_bytes = lru_cache(maxsize=65536)(self._token_bytes)
        """The bytes that a token stands for."""

    async def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Ids of a text; a long one is encoded in a thread, without the GIL.

        :param add_special_tokens: whether the tokens that begin every text (BOS) are added. A template has
            written them already.
        """
        if len(text) < _long:
            ids = self.core.encode(text, add_special_tokens=add_special_tokens).ids
        else:
            ids = await asyncio.get_running_loop().run_in_executor(
                None, self._encode_long, text, add_special_tokens
            )
        if add_special_tokens and self._must_add_bos and self._bos is not None and ids[:1] != [self._bos]:
            ids.insert(0, self._bos)
        elif add_special_tokens and self._must_drop_bos:
            del ids[0]
        return ids

    def _encode_long(self, text: str, add_special_tokens: bool) -> list[int]:
        # Unlike encode(), a batch, although of one text, gives the GIL up.
        return self.core.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Text of ids."""
        return self.core.decode(ids, skip_special_tokens=skip_special_tokens)

    def token_id(self, token: str) -> int | None:
        """Id of a token, None if there is no such token."""
        return self.core.token_to_id(token)

    def _token_bytes(self, id: int) -> bytes:
        if (added := self._added.get(id)) is not None:
            return added.encode()
        token = self.core.id_to_token(id)
        if token is None:  # a model may have more ids than its tokenizer
            return b""
        if "ByteLevel" in self._decoders:
            letters = _bytes_of_letters()
            return b"".join(
                bytes([letters[letter]]) if letter in letters else letter.encode() for letter in token
            )
        if "ByteFallback" in self._decoders and (match := _byte_token.fullmatch(token)):
            return bytes([int(match[1], 16)])
        if self._has_spaces_as_lines:  # SentencePiece
            return token.replace("▁", " ").encode()
        return self.decode([id], skip_special_tokens=False).encode()
