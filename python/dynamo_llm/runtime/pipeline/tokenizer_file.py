# SPDX-License-Identifier: Apache-2.0
"""Limits what a tokenizer.json may declare.

The library ``tokenizers`` builds whatever the file describes: tables up to the largest id, replacements of a
letter by a hundred megabytes, a hundred thousand tokens around each text. Therefore, numbers and lengths are
checked first.
"""

from typing import Any

#: Ids may have gaps, but tables by id must not be mostly empty.
_most_gaps = 100_000
_most_added = 100_000
#: The components around the model.
_steps = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_most_values = 10_000
_most_characters = {"Regex": 16_384, "precompiled_charsmap": 1 << 23}
_most_characters_of_others = 1024
#: Maximum number of tokens around a text.
_most_edges = 64
_most_word = 10_000


def check(description: Any) -> None:
    """Checks a tokenizer.json.

    :raises ValueError: it would take memory or time out of proportion to its size.
    """
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise ValueError('it must be an object with a "model"')
    model, added = description["model"], description.get("added_tokens") or []
    _check_ids(model.get("vocab"), added)
    for key in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        _check_text(key, model.get(key) or "")
    longest = model.get("max_input_chars_per_word")
    if longest is not None and not (type(longest) is int and 0 <= longest <= _most_word):
        raise ValueError(f'"max_input_chars_per_word" must be from 0 to {_most_word}, not {longest!r}')
    for name in _steps:
        _check_step(name, description.get(name))


def _check_ids(vocabulary: Any, added: Any) -> None:
    if not isinstance(added, list) or len(added) > _most_added:
        raise ValueError(f'"added_tokens" must be a list of at most {_most_added} tokens')
    ids = [one.get("id") if isinstance(one, dict) else None for one in added]
    count = len(added)
    if isinstance(vocabulary, dict):
        ids += vocabulary.values()
        count += len(vocabulary)
    elif isinstance(vocabulary, list):  # the id is the position in the list
        count += len(vocabulary)
    most = 4 * count + _most_gaps
    for id in ids:
        if type(id) is not int or not 0 <= id <= most:
            raise ValueError(f"a token has the id {id!r}; with {count} tokens it must be from 0 to {most}")


def _check_step(name: str, step: Any) -> None:
    count, values = 1, [(name, step)]
    while values:
        key, value = values.pop()
        if isinstance(value, str):
            _check_text(key, value)
        elif isinstance(value, dict | list):
            count += len(value)
            if count > _most_values:
                raise ValueError(f'"{name}" has more than {_most_values} values')
            if isinstance(value, dict) and value.get("type") == "TemplateProcessing":
                _check_template(value)
            values += value.items() if isinstance(value, dict) else [(key, one) for one in value]


def _check_text(key: str, value: Any) -> None:
    most = _most_characters.get(key, _most_characters_of_others)
    if not isinstance(value, str) or len(value) > most:
        given = f"{len(value)} characters" if isinstance(value, str) else repr(value)[:60]
        raise ValueError(f'"{key}" must be a text of at most {most} characters, not {given}')


def _check_template(value: dict[str, Any]) -> None:
    """Rejects a template that puts too many tokens around each text."""
    tokens = value.get("special_tokens")
    ids = {
        name: len(token["ids"]) if isinstance(token, dict) and isinstance(token.get("ids"), list) else 1
        for name, token in (tokens.items() if isinstance(tokens, dict) else ())
    }
    for key in ("single", "pair"):
        pieces = value.get(key)
        edges = 0
        for piece in pieces if isinstance(pieces, list) else ():
            special = piece.get("SpecialToken") if isinstance(piece, dict) else None
            name = special.get("id") if isinstance(special, dict) else None
            edges += ids.get(name, 1) if isinstance(name, str) else 1
        if edges > _most_edges:
            raise ValueError(
                f'"{key}" of "post_processor" adds {edges} tokens to each text; at most {_most_edges} do'
            )
