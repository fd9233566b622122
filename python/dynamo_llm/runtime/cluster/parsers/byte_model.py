# SPDX-License-Identifier: Apache-2.0
"""Writes a model whose tokens are the bytes of UTF-8: Dynamo detokenizes them to the text that it parses."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

#: Tokens of a text that Dynamo accepts; more than any answer has.
context_length = 1 << 30

_config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 256,
    "hidden_size": 64,
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "max_position_embeddings": context_length,
    "eos_token_id": [],
}
_tokenizer_config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": context_length,
    "chat_template": "{{ messages[0]['content'] }}",  # the prompt is the content of the only message
}


def write(folder: Path) -> None:
    """Writes the model's files. The id of a token is its byte."""
    tokenizer = Tokenizer(models.BPE(_vocabulary(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(_config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config), encoding="utf-8")


def _vocabulary() -> dict[str, int]:
    """Returns the letters of byte-level tokenizers: printable bytes stand for themselves, the others for code
    points from 256 on.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + number) for number, byte in enumerate(others)
    }
    return {letter: byte for byte, letter in letters.items()}
