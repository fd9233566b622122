# SPDX-License-Identifier: Apache-2.0
"""Reads the special and added tokens that the files next to ``tokenizer.json`` declare."""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken

from dynamo_llm.errors import ModelNotFoundError

_names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Maximum number of tokens that the files may declare.
_most = 100_000
_flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
_Token = str | AddedToken


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str)


def _added_token(value: Any, **flags: bool) -> AddedToken:
    given = {name: value[name] for name in _flags if isinstance(value.get(name), bool)}
    return AddedToken(value["content"], **{**given, **flags})


def _token(value: Any) -> _Token | None:
    """Returns a token given as a string, or as an object with the key ``content``; otherwise None."""
    if isinstance(value, str | AddedToken):
        return value
    return _added_token(value) if _is_object(value) else None


def _text(token: _Token) -> str:
    return token if isinstance(token, str) else token.content


def _marked(token: AddedToken, names: set[str]) -> AddedToken:
    """Returns the token, marked as special if it has a name."""
    flags = {name: getattr(token, name) for name in _flags}
    return AddedToken(token.content, **{**flags, "special": token.special or token.content in names})


class SpecialTokens:
    """The special tokens by name, and the tokens that a tokenizer needs in addition to its
    ``tokenizer.json``.

    The rules are those of transformers 5: if ``tokenizer_config.json`` has ``added_tokens_decoder``, both
    ``special_tokens_map.json`` and ``added_tokens.json`` are ignored. Otherwise, ``special_tokens_map.json``
    overrides ``tokenizer_config.json``.

    :param config: the content of ``tokenizer_config.json``.
    :param special_tokens_map: the content of ``special_tokens_map.json``; empty without that file.
    :param added_tokens: the content of ``added_tokens.json``, ids by token; empty without that file.
    :raises ModelNotFoundError: an entry is not a token.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        special_tokens_map: Mapping[str, Any],
        added_tokens: Mapping[str, Any],
    ) -> None:
        values = dict(config)
        if "additional_special_tokens" in values and not values.get("extra_special_tokens"):
            values["extra_special_tokens"] = values.pop("additional_special_tokens")
        declared = values.get("added_tokens_decoder")
        self._has_decoder = isinstance(declared, dict)
        by_name = _take_named(values)
        if isinstance(declared, dict):
            self._by_id = _of_decoder(declared)
        else:
            values.update(_overriding(special_tokens_map, values))
            by_name.update(_take_extra(values))
            self._by_id = _of_added_tokens(added_tokens, values)
        if "extra_special_tokens" not in values:
            values["extra_special_tokens"] = values.get("additional_special_tokens")
        self._named = _named(values, by_name)
        extra = values["extra_special_tokens"]
        tokens = [_token(one) for one in extra] if isinstance(extra, list) else []
        self._extra = [token for token in tokens if token is not None]
        if len(self._extra) + len(self._by_id) > _most:
            raise ModelNotFoundError(f"the files next to tokenizer.json declare more than {_most} tokens")
        self.splits = config.get("split_special_tokens") is True
        """Whether special tokens in a text are split like other text."""

    @property
    def by_name(self) -> dict[str, Any]:
        """Texts of the tokens by name, as chat templates receive them: ``bos_token``, ``image_token``, ...;
        also the list ``additional_special_tokens`` if there are any.
        """
        result: dict[str, Any] = {name: _text(token) for name, token in self._named.items()}
        if self._extra:
            result["additional_special_tokens"] = [_text(token) for token in self._extra]
        return result

    @property
    def key(self) -> str:
        """A string that differs for different sets of tokens."""
        return repr((self.splits, self._has_decoder, self._by_id, self._named, self._extra))

    def add_to(self, core: tokenizers.Tokenizer) -> None:
        """Adds the tokens that a tokenizer lacks. The order is that of transformers, because it determines
        the ids: a token that is already in the vocabulary keeps its id, others get the next ids.
        """
        present = core.get_added_tokens_decoder()
        by_id = self._by_id if self._has_decoder else {**self._by_id, **present}
        tokens: list[_Token] = [by_id[id] for id in sorted(by_id)]  # flags of present ones may change
        texts = {_text(token) for token in [*present.values(), *tokens]}
        further: set[tuple[type, str]] = set()
        flags = {token.content: token for token in self._by_id.values()}
        named = [
            flags.get(_text(token), token) if name in _names else token for name, token in self._named.items()
        ]
        for token in [*named, *self._extra]:
            if _text(token) not in texts and (type(token), _text(token)) not in further:
                further.add((type(token), _text(token)))
                tokens.append(token)
        names = {_text(token) for token in named}
        core.add_tokens(
            [
                AddedToken(token, special=True) if isinstance(token, str) else _marked(token, names)
                for token in tokens
            ]
        )
        core.encode_special_tokens = self.splits


def _take_extra(values: dict[str, Any]) -> dict[str, _Token]:
    """Removes the tokens of ``extra_special_tokens``, if they have names, and returns them."""
    extra = values.get("extra_special_tokens")
    if not isinstance(extra, dict):
        return {}
    del values["extra_special_tokens"]
    return _tokens(extra)


def _tokens(values: Mapping[str, Any]) -> dict[str, _Token]:
    """Returns the values that are tokens."""
    return {name: token for name, value in values.items() if (token := _token(value)) is not None}


def _take_named(values: dict[str, Any]) -> dict[str, _Token]:
    """Removes the tokens with names specific to the model, such as ``image_token``, and returns them."""
    names = [
        name
        for name, value in values.items()
        if name.endswith("_token") and name not in _names and isinstance(value, str)
    ]
    found = {**{name: values.pop(name) for name in names}, **_take_extra(values)}
    saved = values.get("model_specific_special_tokens")  # the key that transformers 5 saves them under
    return found or (_tokens(saved) if isinstance(saved, dict) else {})


def _overriding(special_tokens_map: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tokens of ``special_tokens_map.json``. Its ``extra_special_tokens`` extend the others'."""
    result = {
        name: _added_token(value, special=True)
        if _is_object(value) and name != "extra_special_tokens"
        else value
        for name, value in special_tokens_map.items()
    }
    extra = result.get("extra_special_tokens")
    if isinstance(extra, list):
        tokens = [_added_token(one, special=True) if _is_object(one) else one for one in extra]
        tokens = [*(values.get("extra_special_tokens") or []), *tokens]
        result["extra_special_tokens"] = list({repr(one): one for one in tokens}.values())
    return result


def _named(values: Mapping[str, Any], by_name: Mapping[str, _Token]) -> dict[str, _Token]:
    """Returns tokens by name, in the order in which they are added."""
    own = [name for name in values if name.endswith("_token") and name not in _names]
    return {**_tokens({name: values.get(name) for name in [*_names, *own]}), **by_name}


def _of_decoder(declared: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Reads ``added_tokens_decoder``."""
    result = {}
    for id, value in declared.items():
        if not id.isdecimal() or not _is_object(value):
            raise ModelNotFoundError(
                f'"{id}" in "added_tokens_decoder" of tokenizer_config.json must be a token id, with an '
                f'object that has "content"'
            )
        result[int(id)] = _added_token(value)
    return result


def _of_added_tokens(added_tokens: Mapping[str, Any], values: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Reads ``added_tokens.json``."""
    special = [*(values.get(name) for name in _names), *(values.get("extra_special_tokens") or ())]
    texts = {_text(token) for token in special if isinstance(token, str | AddedToken)}
    result = {}
    for text, id in added_tokens.items():
        if type(id) is not int:
            raise ModelNotFoundError(f'"{text}" in added_tokens.json must have a token id, not {id!r}')
        result[id] = AddedToken(text, normalized=text not in texts, special=text in texts)
    return result
