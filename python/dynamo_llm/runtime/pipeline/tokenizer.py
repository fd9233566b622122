# SPDX-License-Identifier: Apache-2.0
"""Encodes texts as token ids, and decodes token ids."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers

from dynamo_llm import _core
from dynamo_llm.errors import EngineFailedError, ModelNotFoundError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.pipeline import regular_expressions, text_length, tokenizer_file
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.rust_panic import is_rust_panic
from dynamo_llm.runtime.threads import DaemonThreads, in_pool

#: Texts with more characters than this are encoded in a thread: about a millisecond of work.
_long = 4000
#: Threads of a tokenizer whose regular expressions may take very long.
_most_threads = 2
#: Names of the tokens that end an answer.
_end_names = ("eos_token", "eot_token")

#: The most recent tokenizers, by the inputs they were built from. Applications often open a model again, and
#: tokenizers 0.23 leaks about 2 KB for each object that encoded something through a regular expression.
_cores: dict[tuple[Any, ...], tokenizers.Tokenizer] = {}
_most_cores = 2


def _core_of(folder: ModelFolder) -> tokenizers.Tokenizer:
    """Returns the tokenizer built from all files of a folder. Blocks while they are read."""
    file = folder.tokenizer_file
    state = file.stat()
    edges = _edges(folder)
    key = (str(file), state.st_mtime_ns, state.st_size, folder.declared_tokens.key, str(edges))
    core = _cores.get(key)
    if core is None:
        core = read_core(file)
        folder.declared_tokens.add_to(core)
        _set_edges(core, edges)
        _cores[key] = core
        while len(_cores) > _most_cores:
            _cores.pop(next(iter(_cores)), None)
    return core


def read_core(file: Path) -> tokenizers.Tokenizer:
    """Returns the tokenizer built from one file. Blocks.

    :raises ModelNotFoundError: the file cannot be read.
    """
    data = model_files.read(file)
    tokenizer_file.check(model_files.parse_json(data))
    core = tokenizers.Tokenizer.from_buffer(data)
    # Truncation and padding are for batches in training; they would change prompts.
    core.no_truncation()
    core.no_padding()
    return core


def _edges(folder: ModelFolder) -> list[tuple[str, bool]]:
    """Returns the tokens that are declared to begin or end a text, and whether each is added."""
    result = []
    for name in ("bos_token", "eos_token"):
        token, adds = folder.special_tokens.get(name), folder.tokenizer_config.get(f"add_{name}")
        result.append(("", False) if token is None or not isinstance(adds, bool) else (token, adds))
    return result


def _set_edges(core: tokenizers.Tokenizer, edges: list[tuple[str, bool]]) -> None:
    """Sets the first and the last token of a text as configured, which overrides the file."""
    if not any(token for token, _ in edges):
        return
    first, last = changed_first, changed_last = _added(core.post_processor)
    (bos, adds_bos), (eos, adds_eos) = edges
    if bos and adds_bos and bos not in first:
        changed_first = [bos, *first]
    elif bos and not adds_bos:
        changed_first = [token for token in first if token != bos]
    if eos and adds_eos and eos not in last:
        changed_last = [*last, eos]
    elif eos and not adds_eos:
        changed_last = [token for token in last if token != eos]
    if (changed_first, changed_last) != (first, last):
        core.post_processor = _post_processor(core, changed_first, changed_last)


def _added(post_processor: Any) -> tuple[list[str], list[str]]:
    """Returns the tokens that a post-processor puts before and after a text."""
    if post_processor is None:
        return [], []
    text = tokenizers.Tokenizer(tokenizers.models.WordLevel({"text": 0}, unk_token="text")).encode("text")
    tokens = post_processor.process(text).tokens
    at = tokens.index("text")
    return tokens[:at], tokens[at + 1 :]


def _post_processor(core: tokenizers.Tokenizer, first: list[str], last: list[str]) -> Any:
    def special(tokens: list[str]) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]

    def sequence(id: str) -> list[dict[str, Any]]:
        return [{"Sequence": {"id": id, "type_id": 0}}]

    description = {
        "type": "TemplateProcessing",
        "single": [*special(first), *sequence("A"), *special(last)],
        "pair": [*special(first), *sequence("A"), *sequence("B"), *special(last)],
        "special_tokens": {
            token: {"id": token, "ids": [core.token_to_id(token)], "tokens": [token]}
            for token in [*first, *last]
        },
    }
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    other = tokenizers.Tokenizer.from_str(json.dumps({"model": model, "post_processor": description}))
    return other.post_processor


class Tokenizer:
    """A model's tokenizer. Thread-safe.

    :raises ModelNotFoundError: ``tokenizer.json`` cannot be read.
    """

    def __init__(self, folder: ModelFolder) -> None:
        try:
            self.core = _core_of(folder)
            """The tokenizer of the library ``tokenizers``, with all tokens that the folder declares. It is
            shared: do not modify it.
            """
        except ModelNotFoundError:
            raise
        except BaseException as error:  # the library raises Exception itself, and panics
            if not isinstance(error, Exception) and not is_rust_panic(error):
                raise
            raise ModelNotFoundError(
                f'"{folder.tokenizer_file}" is not a valid tokenizer: {error}'
            ) from error
        self.vocab_size = max(self.core.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        """Exclusive upper limit of token ids."""
        self.longest_token = text_length.longest_token(self.core)
        """Maximum number of UTF-8 bytes of a text that one token represents; None if there is no bound."""
        self.special_ids = frozenset(
            id for id, token in self.core.get_added_tokens_decoder().items() if token.special
        )
        """Ids of the special tokens."""
        try:
            self.vocabulary = _core.Vocabulary(
                [self.core.id_to_token(id) for id in range(self.vocab_size)],
                sorted(self.special_ids),
                json.dumps(_description(self.core.decoder)),
                _decode_with,
            )
            """The tokens, and what decodes them to text."""
        except ValueError as error:
            raise ModelNotFoundError(
                f'"{folder.tokenizer_file}" has a decoder that is not supported: {error}'
            ) from error
        named = [folder.special_tokens.get(name) for name in _end_names]
        ids = [self.core.token_to_id(token) for token in named if token is not None]
        self.eos_token_ids = list(
            dict.fromkeys([*folder.eos_token_ids, *(id for id in ids if id is not None)])
        )
        """Ids of all tokens that end an answer: those of ``generation_config.json`` and ``config.json``, and
        the tokenizer's own.
        """
        steps = (self.core.normalizer, self.core.pre_tokenizer)
        self._threads = (
            DaemonThreads(_most_threads, "dynamo-llm-tokenizer")
            if regular_expressions.may_backtrack(*map(_description, steps))
            else None
        )
        """Threads of this tokenizer alone if its regular expressions may take minutes, so that no other model
        waits.
        """

    async def encode(
        self, text: str, add_special_tokens: bool, context_length: int | None = None
    ) -> list[int]:
        """Encodes a text as token ids; a long one in a thread, without the GIL.

        :param add_special_tokens: whether to add the tokens that begin and end every text (BOS, EOS). A chat
            template already writes them.
        :param context_length: see :meth:`encode_now`.
        :raises ContextLengthError: see :meth:`encode_now`.
        """
        if self._is_quick(text):
            return self.encode_now(text, add_special_tokens, context_length)
        return await in_pool(self.encode_now, text, add_special_tokens, context_length, pool=self._threads)

    def encode_now(
        self, text: str, add_special_tokens: bool = False, context_length: int | None = None
    ) -> list[int]:
        """Encodes a text in this thread, without the GIL if it may take long.

        :param context_length: number of tokens that a text may have. A much longer text is rejected without
            encoding all of it; a slightly longer one may pass. None: any number.
        :raises ContextLengthError: the text is much too long.
        :raises EngineFailedError: a regular expression of the tokenizer takes too long for this text.
        """
        try:
            if context_length is not None:
                text_length.check(self.core, text, context_length)
            if self._is_quick(text):
                return self.core.encode(text, add_special_tokens=add_special_tokens).ids
            # Unlike encode(), a batch releases the GIL, even if it has only one text.
            return self.core.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        except BaseException as error:
            if not is_rust_panic(error):
                raise
            raise EngineFailedError(f"the model's tokenizer cannot split this text: {error}") from error

    async def encode_pair(
        self, first: str, second: str, context_length: int | None = None
    ) -> tuple[list[int], list[int]]:
        """Encodes two texts as one row, as a model that compares them was trained on: with the tokens that
        begin, separate, and end them.

        :param context_length: see :meth:`encode_now`.
        :returns: token ids, and for each of them which text it belongs to, 0 or 1.
        :raises ContextLengthError: see :meth:`encode_now`.
        """
        return await in_pool(self._encode_pair_now, first, second, context_length, pool=self._threads)

    def _encode_pair_now(
        self, first: str, second: str, context_length: int | None
    ) -> tuple[list[int], list[int]]:
        try:
            if context_length is not None:
                for text in (first, second):
                    text_length.check(self.core, text, context_length)
            (encoding,) = self.core.encode_batch([(first, second)], add_special_tokens=True)
        except BaseException as error:
            if not is_rust_panic(error):
                raise
            raise EngineFailedError(f"the model's tokenizer cannot split this text: {error}") from error
        return encoding.ids, encoding.type_ids

    def _is_quick(self, text: str) -> bool:
        return self._threads is None and len(text) < _long

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Decodes token ids. Each byte of a byte token that is not valid UTF-8 becomes one U+FFFD."""
        text = self.core.decode(ids, skip_special_tokens=skip_special_tokens)
        if "\ufffd" not in text or not self.vocabulary.has_byte_tokens:
            return text
        # The library also replaces the characters around such bytes by U+FFFD.
        return self.vocabulary.decode(ids, skip_special_tokens)

    def is_token(self, id: int) -> bool:
        """Whether an id is that of a token, and looking up the token's text returns a token."""
        return id < self.vocab_size and self.core.token_to_id(self.core.decode([id], False)) is not None

    def token_id(self, token: str) -> int | None:
        """Returns the id of a token, or None if it does not exist."""
        return self.core.token_to_id(token)

    def token_bytes(self, id: int) -> bytes:
        """Returns the bytes that a token represents; empty if the token does not exist."""
        return self.vocabulary.bytes_of(id)


def _description(step: Any) -> dict[str, Any] | None:
    """Returns a tokenizer component as described in tokenizer.json."""
    return None if step is None else dict(json.loads(step.__getstate__()))


@lru_cache(maxsize=16)
def _decoder(decoders: str) -> Any:
    description = {"type": "Sequence", "decoders": json.loads(decoders)}
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    return tokenizers.Tokenizer.from_str(json.dumps({"model": model, "decoder": description})).decoder


def _decode_with(decoders: str, tokens: list[str]) -> str:
    """Decodes tokens with decoders that only the library knows: a JSON array, as in tokenizer.json."""
    text: str = _decoder(decoders).decode(tokens)
    return text
