# SPDX-License-Identifier: Apache-2.0
"""Builds the tokenizer of a GGUF model from the tables in the file.

mistral.rs also builds one, but treats a SentencePiece vocabulary as a unigram model, splits all
byte-level texts in the same way, and ignores ``add_bos_token`` and ``add_space_prefix``.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime import gguf_file
from dynamo_llm.runtime.engines.mistralrs import gguf_metadata, gguf_split, temporary_files
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

#: Kinds of tokens in ``tokenizer.ggml.token_type``.
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
#: Maximum number of characters processed to find the tokens that merge into others; a real vocabulary needs
#: about 10 million.
_most_splits = 1_000_000_000
_hint = '; give the model\'s tokenizer.json as "options.tokenizer_json"'


def of(path: Path) -> Tokenizer:
    """Builds the tokenizer that a file's metadata describe.

    :raises ModelNotFoundError: a table is missing or broken.
    :raises NotSupportedError: the kind of tokenizer is unknown.
    """
    metadata = gguf_file.read(path).metadata
    try:
        core = _core(metadata)
    except NotSupportedError as error:
        raise NotSupportedError(f'the file "{path}" {error.message}{_hint}') from error
    except Exception as error:  # the library raises Exception itself
        raise ModelNotFoundError(f'the file "{path}" has a broken tokenizer: {error}{_hint}') from error
    names = json.dumps(gguf_metadata.special_tokens(metadata))
    with temporary_files.folder({"tokenizer.json": core.to_str(), "tokenizer_config.json": names}) as folder:
        return Tokenizer(ModelFolder(folder))


def _core(metadata: dict[str, Any]) -> tokenizers.Tokenizer:
    makers: dict[str, Callable[[dict[str, Any]], tuple[tokenizers.Tokenizer, bool]]] = {
        "gpt2": _byte_level,
        "llama": _sentence_piece,
    }
    kind = metadata.get("tokenizer.ggml.model")
    if kind not in makers:
        raise NotSupportedError(
            f'has a tokenizer of the kind {kind!r} ("tokenizer.ggml.model"); supported are '
            f"{', '.join(makers)}"
        )
    core, adds_bos = makers[kind](metadata)
    kinds = list(zip(_tokens(metadata), _kinds(metadata), strict=True))
    special = [token for token, kind in kinds if kind in (_UNKNOWN, _CONTROL)]
    added = [token for token, kind in kinds if kind == _USER_DEFINED and token]
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    core.add_tokens([AddedToken(token, normalized=False, special=False) for token in added])
    _add_edges(core, metadata, adds_bos)
    return core


def _tokens(metadata: dict[str, Any]) -> list[str]:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(one, str) for one in tokens):
        raise ValueError('"tokenizer.ggml.tokens" must be a list of texts')
    return tokens


def _kinds(metadata: dict[str, Any]) -> list[int]:
    """Returns the kind of each token."""
    tokens = _tokens(metadata)
    kinds = metadata.get("tokenizer.ggml.token_type")
    if kinds is None:
        named = set(gguf_metadata.special_tokens(metadata).values())
        return [_CONTROL if token in named else 1 for token in tokens]
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise ValueError(f'"tokenizer.ggml.token_type" must be a list of {len(tokens)} numbers')
    return kinds


def _byte_level(metadata: dict[str, Any]) -> tuple[tokenizers.Tokenizer, bool]:
    """Builds a byte-level BPE tokenizer. Also returns whether it adds BOS by default."""
    name = metadata.get("tokenizer.ggml.pre")
    split = gguf_split.known.get(str(name))
    if split is None:
        raise NotSupportedError(
            f'splits texts in the way {name!r} ("tokenizer.ggml.pre"), which is not known; known are '
            f"{', '.join(gguf_split.known)}"
            if name is not None
            else 'does not tell how its tokenizer splits texts: it has no "tokenizer.ggml.pre"'
        )
    vocabulary = {token: id for id, token in enumerate(_tokens(metadata))}
    merges = _merges(metadata)
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=split.ignores_merges))
    if split.composes:
        core.normalizer = normalizers.NFC()
    steps: list[Any] = [
        pre_tokenizers.Split(tokenizers.Regex(expression), "isolated") for expression in split.expressions
    ]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    return core, split.adds_bos


def _merges(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    merges = metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise ValueError('it has no "tokenizer.ggml.merges"')
    pairs = []
    for merge in merges:
        # A part may begin with a space, but has none within it.
        at = merge.find(" ", 1)
        if at < 0 or at == len(merge) - 1:
            raise ValueError(f'the merge {merge!r} in "tokenizer.ggml.merges" must be two tokens')
        pairs.append((merge[:at], merge[at + 1 :]))
    return pairs


def _sentence_piece(metadata: dict[str, Any]) -> tuple[tokenizers.Tokenizer, bool]:
    """Builds a SentencePiece BPE tokenizer, which merges the pair with the best score until none is left."""
    tokens, kinds = _tokens(metadata), _kinds(metadata)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    scores = metadata.get("tokenizer.ggml.scores")
    if isinstance(scores, list) and len(scores) == len(tokens):
        merges = _merges_of_scores(tokens, kinds, scores)
    elif scores is None and "tokenizer.ggml.merges" in metadata:
        merges = _merges(metadata)
    else:
        raise ValueError(f'"tokenizer.ggml.scores" must be a list of {len(tokens)} numbers')
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    unknown = tokens[unknown] if isinstance(unknown, int) and unknown < len(tokens) else None
    has_bytes = _BYTE in kinds
    core = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=has_bytes)
    )
    has_prefix = metadata.get("tokenizer.ggml.add_space_prefix", True) is not False
    steps: list[Any] = [normalizers.Prepend("▁")] if has_prefix else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    back: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*back, *([decoders.Strip(" ", 1, 0)] if has_prefix else [])])
    return core, True


def _merges_of_scores(
    tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Returns all ways to merge two tokens into another, the best first."""
    parts = {
        token for token, kind in zip(tokens, kinds, strict=True) if kind not in (_UNKNOWN, _CONTROL, _BYTE)
    }
    if sum(len(token) ** 2 for token in parts) > _most_splits:
        raise ValueError('the tokens in "tokenizer.ggml.tokens" are too long')
    found = []
    for token, score in zip(tokens, scores, strict=True):
        if token in parts:
            for at in range(1, len(token)):
                if token[:at] in parts and token[at:] in parts:
                    found.append((-score, -at, token[:at], token[at:]))
    found.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in found]


def _add_edges(core: tokenizers.Tokenizer, metadata: dict[str, Any], adds_bos: bool) -> None:
    """Makes the tokenizer add BOS before a text, and EOS after it, if the metadata declare that."""
    named = gguf_metadata.special_tokens(metadata)
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token", adds_bos)
    bos = named.get("bos_token") if adds_bos is True else None
    eos = named.get("eos_token") if metadata.get("tokenizer.ggml.add_eos_token") is True else None
    if metadata.get("tokenizer.ggml.add_bos_token") is True and bos is None:
        raise ValueError(
            '"tokenizer.ggml.add_bos_token" is true, but "tokenizer.ggml.bos_token_id" is missing'
        )
    if bos is None and eos is None:
        return
    single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    core.post_processor = processors.TemplateProcessing(
        single=single,
        pair=[*single, "$B"],
        special_tokens=[(token, core.token_to_id(token)) for token in sorted(filter(None, {bos, eos}))],
    )
